// Vitrify for C++17: loads sealed artifacts and runs them without Python. Header-only; link with libcrypto of
// OpenSSL 3 (-lcrypto), threads (-pthread) and, with glibc before 2.34, -ldl.
//
//     vitrify::Artifact artifact = vitrify::load("model.vit");
//     vitrify::Session session(artifact, 4);
//     std::vector<vitrify::Tensor> outputs = session.run({{"x", vitrify::Tensor({2, 3}, std::vector<float>(6))}});
//
// What is refused, in which order and with which exit status is that of Python's loader: docs/artifacts.md, error.hpp.
#ifndef VITRIFY_HPP
#define VITRIFY_HPP

#include "vitrify/artifact.hpp"
#include "vitrify/error.hpp"
#include "vitrify/session.hpp"
#include "vitrify/tensor.hpp"

#endif
