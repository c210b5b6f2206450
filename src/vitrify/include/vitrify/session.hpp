// Sessions: a loaded artifact, ready to run, from any number of threads at once.
#ifndef VITRIFY_SESSION_HPP
#define VITRIFY_SESSION_HPP

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "artifact.hpp"
#include "probes.hpp"
#include "tensor.hpp"

namespace vitrify {

// Limits of a session's runs.
struct SessionOptions {
    int threads = 0;                         // 0: one per physical core, within affinity and quota
    std::int64_t memory_limit = 0;           // bytes that a run may take; 0: any number
    std::chrono::nanoseconds time_limit{0};  // of a run; 0: none
    std::int64_t trip_limit = 0;             // trips of a run's loops together; 0: any number
};

// Ends a run from another thread, before its next kernel.
class StopFlag {
 public:
    void set() { __atomic_store_n(&value_, 1, __ATOMIC_RELAXED); }
    void clear() { __atomic_store_n(&value_, 0, __ATOMIC_RELAXED); }

 private:
    friend class Session;
    std::int32_t value_ = 0;
};

using Feed = std::map<std::string, Tensor>;

class Session {
 public:
    // `threads` is how many a run may use, 0 for one per core. SchemaError for another interface, and for models whose
    // strings, sequences or custom ops need Python; PlatformError where no payload fits this CPU.
    Session(const Artifact &artifact, int threads) : Session(artifact, with_threads(threads)) {}

    explicit Session(const Artifact &artifact, const SessionOptions &options = {})
        : artifact_(artifact), options_(options) {
        const Manifest &manifest = artifact.manifest();
        if (manifest.abi != VT_ABI_DIGEST) {
            throw SchemaError("the artifact was made for another runtime", artifact.path(), VT_ABI_DIGEST, manifest.abi,
                              "compile the model again with this version");
        }
        const Target &target = detail::choose_target(manifest.targets, artifact.path());
        if (options.threads < 0 || options.threads > 1024) {
            throw InvalidArgumentError("threads", "", "0 to 1024", std::to_string(options.threads));
        }
        threads_ = options.threads ? options.threads : detail::default_threads();
        const std::int64_t *stated = std::get_if<std::int64_t>(&target.peak_bytes);
        if (options.memory_limit && stated && *stated > options.memory_limit) refuse_memory(*stated);
        refuse_python(manifest);
        const std::lock_guard<std::mutex> guard(artifact.held_->lock);
        library_ = detail::Process::shared().load(artifact.payload(target));
        weights_ = artifact.weights(target);
        library_->check(manifest.inputs, manifest.outputs);
        create();
        try {
            check_probes();
        } catch (...) {
            library_->table().session_destroy(session_);
            throw;
        }
    }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;
    ~Session() { library_->table().session_destroy(session_); }

    int threads() const { return threads_; }
    const std::vector<Port> &inputs() const { return artifact_.inputs(); }
    const std::vector<Port> &outputs() const { return artifact_.outputs(); }

    // One inference: all outputs, in the order of outputs(). InvalidArgumentError (with everything that is wrong) for
    // a feed that does not fit the model, RunError and the classes below it for a run that failed.
    std::vector<Tensor> run(const Feed &feed, const StopFlag *stop = nullptr) const {
        const std::vector<const Tensor *> given = fitting(feed);
        if (weights_) weights_->check();
        std::vector<char *> inputs;
        std::vector<const std::int64_t *> dims;
        for (const Tensor *tensor : given) {
            inputs.push_back(tensor->bytes());
            dims.push_back(tensor->dims().data());
        }
        Results results{this, std::vector<std::unique_ptr<Tensor>>(outputs().size())};
        vt_watch watch{};
        watch.stop = stop ? &stop->value_ : nullptr;
        watch.time_limit = options_.time_limit.count();
        watch.trip_limit = options_.trip_limit;
        vt_request request{};
        request.inputs = inputs.data();
        request.input_dims = dims.data();
        request.output = Results::memory;
        request.caller = &results;
        request.watch = stop ? &watch : nullptr;
        const std::int64_t status = library_->table().run(session_, &request);
        if (status) fail(status);
        std::vector<Tensor> found;
        for (auto &tensor : results.made) found.push_back(std::move(*tensor));
        return found;
    }

    // The same with the outputs by their names.
    std::map<std::string, Tensor> run_named(const Feed &feed, const StopFlag *stop = nullptr) const {
        std::vector<Tensor> found = run(feed, stop);
        std::map<std::string, Tensor> named;
        for (std::size_t i = 0; i < found.size(); i++) named.emplace(outputs()[i].name, std::move(found[i]));
        return named;
    }

    // For callers of the C interface (vitrify.h), in this and other languages: the weights have been compared with
    // their digests, and all lives as long as this object.
    struct Native {
        const vt_payload_table *table;
        vt_session *session;
    };
    Native native() const {
        if (weights_) weights_->check();
        return {&library_->table(), session_};
    }

 private:
    // Where the payload asks for the outputs' memory: no exception may pass its frames.
    struct Results {
        const Session *session;
        std::vector<std::unique_ptr<Tensor>> made;

        static char *memory(void *caller, std::int32_t index, const std::int64_t *dims) noexcept {
            auto &results = *static_cast<Results *>(caller);
            const auto at = static_cast<std::size_t>(index);
            const Port &port = results.session->outputs()[at];
            try {
                results.made[at] = std::make_unique<Tensor>(Tensor::empty(
                    static_cast<DType>(detail::dtype_code(port.dtype)), Dims(dims, dims + port.dims.size())));
            } catch (...) {
                return nullptr;  // which ends the run: no memory
            }
            return results.made[at]->bytes();
        }
    };

    static SessionOptions with_threads(int threads) {
        SessionOptions options;
        options.threads = threads;
        return options;
    }

    void refuse_python(const Manifest &manifest) const {
        if (manifest.has_host) {
            throw SchemaError("the model takes or gives strings, sequences or maps", artifact_.path(),
                              "tensors of numbers", "",
                              "run it with Python, or compile the part of it that has tensors of numbers alone");
        }
        if (!manifest.python_ops.empty()) {
            throw SchemaError("the artifact needs custom ops of Python", artifact_.path(), "ops with C source",
                              detail::shortened(manifest.python_ops[0]),
                              "give the ops C source and compile the model again");
        }
    }

    void create() {
        const auto bytes = static_cast<std::uint64_t>(library_->table().model->weights_bytes);
        if (bytes != (weights_ ? weights_->size() : 0)) {
            throw SchemaError("payload and weights disagree on their size", artifact_.path(), std::to_string(bytes), "",
                              "compile the model again");
        }
        const detail::Process &process = detail::Process::shared();
        vt_config config{};
        config.os = &detail::os_table();
        config.parallel_for = process.parallel_for();
        config.pool = process.pool();
        config.weights = weights_ ? weights_->data() : nullptr;
        config.memory_limit = options_.memory_limit;
        config.threads = threads_;
        config.kept_contexts = detail::available_cpus();
        config.time_limit = options_.time_limit.count();
        config.trip_limit = options_.trip_limit;
        session_ = library_->table().session_create(&config);
        if (!session_) throw OutOfMemoryError("no memory for the session", artifact_.path());
    }

    // Runs every probe of the artifact. ProbeError for other results, and where a run fails.
    void check_probes() const {
        std::size_t index = 0;
        for (const Probe &probe : artifact_.manifest().validation) {
            const std::string where = "probe " + std::to_string(index++);
            Feed feed;
            for (const ProbeArray &given : probe.inputs) {
                const Tensor tensor = Tensor::empty(static_cast<DType>(detail::dtype_code(given.dtype)), given.dims);
                const std::string data = artifact_.file(*given.file);
                std::copy(data.begin(), data.end(), tensor.bytes());
                feed.emplace(given.name, tensor);
            }
            if (weights_) weights_->check();
            std::vector<Tensor> found;
            try {
                found = run(feed);
            } catch (const OutOfMemoryError &) {
                throw;
            } catch (const TerminatedError &) {
                throw;
            } catch (const RunError &error) {
                throw ProbeError(where + " does not run: " + error.what(), artifact_.path(), "", "",
                                 detail::other_machine);
            }
            for (std::size_t i = 0; i < found.size(); i++) {
                const ProbeArray &awaited = probe.outputs[i];
                detail::compare_output(awaited, found[i], awaited.file ? artifact_.file(*awaited.file) : std::string(),
                                       where + ": output '" + detail::shortened(awaited.name) + "'", artifact_.path());
            }
        }
    }

    // The tensors in the order of the inputs.
    std::vector<const Tensor *> fitting(const Feed &feed) const {
        std::vector<const Tensor *> given;
        std::string problems;
        std::map<std::string, std::pair<std::int64_t, std::string>> bound;
        for (const Port &port : inputs()) {
            const auto found = feed.find(port.name);
            const std::string problem = found == feed.end() ? "missing" : mismatch(port, found->second, bound);
            if (!problem.empty()) problems += "\n  - '" + port.name + "': " + problem;
            if (found != feed.end()) given.push_back(&found->second);
        }
        for (const auto &[given_name, tensor] : feed) {
            bool known = false;
            for (const Port &port : inputs()) known = known || port.name == given_name;
            if (!known) problems += "\n  - '" + given_name + "': not an input of the model";
        }
        if (!problems.empty()) throw InvalidArgumentError("the inputs do not fit the model:" + problems);
        return given;
    }

    // What is wrong with a tensor for an input; empty where nothing is. Names of dims are bound where they first come.
    static std::string mismatch(const Port &port, const Tensor &tensor,
                                std::map<std::string, std::pair<std::int64_t, std::string>> &bound) {
        if (port.dtype != name(tensor.dtype())) return "expected " + port.dtype + ", got " + name(tensor.dtype());
        const Dims &dims = tensor.dims();
        if (dims.size() != port.dims.size()) {
            return "expected rank " + std::to_string(port.dims.size()) + ", got " + shown(dims);
        }
        if (reinterpret_cast<std::uintptr_t>(tensor.bytes()) % item_size(tensor.dtype())) {
            return "expected memory aligned to its elements";
        }
        for (std::size_t axis = 0; axis < dims.size(); axis++) {
            std::string expected;
            if (const std::int64_t *number = std::get_if<std::int64_t>(&port.dims[axis])) {
                if (*number != dims[axis]) expected = std::to_string(*number);
            } else if (const std::string &dim = std::get<std::string>(port.dims[axis]); is_name(dim)) {
                const auto &first = bound.emplace(dim, std::pair{dims[axis], port.name}).first->second;
                if (first.first != dims[axis]) {
                    expected = dim + " = " + std::to_string(first.first) + " as in '" + first.second + "'";
                }
            }
            if (!expected.empty()) {
                return "axis " + std::to_string(axis) + ": expected " + expected + ", got " +
                       std::to_string(dims[axis]);
            }
        }
        return {};
    }

    // Whether a dim is a name, not an expression over names.
    static bool is_name(const std::string &dim) {
        for (const char c : dim) {
            const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
            if (!word && static_cast<unsigned char>(c) < 128) return false;
        }
        return !dim.empty() && !(dim[0] >= '0' && dim[0] <= '9');
    }

    [[noreturn]] void refuse_memory(std::int64_t need) const {
        throw OutOfMemoryError("the run takes more memory than memory_limit allows", "",
                               "at most " + std::to_string(options_.memory_limit) + " bytes", std::to_string(need),
                               "raise the limit, use smaller dims, or fewer threads");
    }

    [[noreturn]] void fail(std::int64_t status) const {
        if (status < 0) refuse_memory(-status);
        const auto code = status >> 32 & 0xff;
        const auto index = static_cast<std::size_t>(status & 0xffffffff);
        const auto &nodes = artifact_.manifest().nodes;
        std::string where;
        if (index < nodes.size()) {
            where = nodes[index].name.empty() ? nodes[index].op + ": "
                                              : "node '" + nodes[index].name + "' (" + nodes[index].op + "): ";
        }
        switch (code) {
            case VT_ERR_INDEX:
                throw IndexOutOfRangeError(where + "index out of range", "", "", "",
                                           "check the values of the index input");
            case VT_ERR_SHAPE:
                throw ShapeError(where + "the shapes contradict the model", "", "", "",
                                 "check the inputs' dims against inputs()");
            case VT_ERR_OVERFLOW:
                throw ShapeError(where + "shape arithmetic overflows 64 bits", "", "", "", "use smaller dims");
            case VT_ERR_MEMORY:
                throw OutOfMemoryError("memory was refused", "", "", "", "free memory, or use smaller dims");
            case VT_ERR_DIVIDE:
                throw DivisionError(where + "integer division by zero", "", "", "", "check the values of the divisor");
            case VT_ERR_CUSTOM:
                throw CustomOpError(where + "the C source of the custom op reported failure " +
                                    std::to_string(status >> 40));
            case VT_ERR_SIZE:
                throw ShapeError(where +
                                 "a size that follows from the values fed is negative, or larger than any memory");
            case VT_ERR_TRIPS:
                throw RunLimitError(where + "the run's loops reached trip_limit", "",
                                    std::to_string(options_.trip_limit));
            case VT_ERR_TIME:
                throw RunLimitError("the run took longer than time_limit", "",
                                    "at most " + std::to_string(options_.time_limit.count()) + " ns",
                                    std::to_string(index) + " ms so far");
            case VT_ERR_STOPPED: throw TerminatedError("the run was ended by its StopFlag");
            default: throw RunError(where + "status " + std::to_string(status));
        }
    }

    Artifact artifact_;
    SessionOptions options_;
    int threads_ = 1;
    std::shared_ptr<detail::Library> library_;
    std::shared_ptr<detail::Weights> weights_;
    vt_session *session_ = nullptr;
};

}  // namespace vitrify

#endif
