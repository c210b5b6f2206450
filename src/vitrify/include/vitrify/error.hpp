// What loading and running throw: the classes and exit statuses of the Python side (vitrify.errors).
#ifndef VITRIFY_ERROR_HPP
#define VITRIFY_ERROR_HPP

#include <memory>
#include <exception>
#include <string>
#include <utility>

namespace vitrify {

// `code` is the exit status of the command line for errors of the class; `path` is where the artifact or its part
// lies; any of the texts may be empty. what() has all of them.
class Error : public std::exception {
 public:
    const char *what() const noexcept override { return notes_->text.c_str(); }
    int code() const noexcept { return notes_->code; }
    const char *name() const noexcept { return notes_->name; }
    const std::string &path() const noexcept { return notes_->path; }
    const std::string &expected() const noexcept { return notes_->expected; }
    const std::string &actual() const noexcept { return notes_->actual; }
    const std::string &hint() const noexcept { return notes_->hint; }

 protected:
    Error(int code, const char *name, const std::string &message, std::string path, std::string expected,
          std::string actual, std::string hint)
        : notes_(std::make_shared<const Notes>(Notes{code, name, message, path, expected, actual, hint,
                                                     written(message, path, expected, actual, hint)})) {}

 public:
    // The same error of what lies at `path`, where it does not say yet where.
    void locate(const std::string &path) {
        if (!notes_->path.empty()) return;
        Notes found = *notes_;
        found.path = path;
        found.text = written(found.message, path, found.expected, found.actual, found.hint);
        notes_ = std::make_shared<const Notes>(std::move(found));
    }

 private:
    struct Notes {
        int code;
        const char *name;
        std::string message, path, expected, actual, hint, text;
    };

    static std::string written(const std::string &message, const std::string &path, const std::string &expected,
                               const std::string &actual, const std::string &hint) {
        std::string all = path.empty() ? message : path + ": " + message;
        if (!expected.empty()) all += "; expected " + expected;
        if (!actual.empty()) all += "; got " + actual;
        if (!hint.empty()) all += "\n  hint: " + hint;
        return all;
    }

    std::shared_ptr<const Notes> notes_;  // shared, so that copies of an exception cannot throw
};

#define VITRIFY_ERROR(Name, Base, status)                                                                              \
    class Name : public Base {                                                                                         \
     public:                                                                                                           \
        explicit Name(const std::string &message, std::string path = {}, std::string expected = {},                    \
                      std::string actual = {}, std::string hint = {})                                                  \
            : Name(status, #Name, message, std::move(path), std::move(expected), std::move(actual), std::move(hint)) { \
        }                                                                                                              \
                                                                                                                       \
     protected:                                                                                                        \
        Name(int code, const char *name, const std::string &message, std::string path, std::string expected,           \
             std::string actual, std::string hint)                                                                     \
            : Base(code, name, message, std::move(path), std::move(expected), std::move(actual), std::move(hint)) {}   \
    }

// An artifact that is damaged, incomplete, not trusted, or not for this machine.
VITRIFY_ERROR(ArtifactError, Error, 11);
VITRIFY_ERROR(ContainerError, ArtifactError, 11);      // not the one valid encoding of its contents
VITRIFY_ERROR(ManifestError, ArtifactError, 11);       // not canonical JSON, or not of its schema
VITRIFY_ERROR(LimitError, ArtifactError, 11);          // larger, deeper, or of more parts than any is
VITRIFY_ERROR(UnsignedError, ArtifactError, 10);       // without a signature
VITRIFY_ERROR(SignatureError, ArtifactError, 12);      // a signature that is not one of this manifest
VITRIFY_ERROR(UntrustedKeyError, SignatureError, 12);  // too few of the keys that signed are trusted
VITRIFY_ERROR(IntegrityError, ArtifactError, 13);      // a file that is missing, unlisted, or another
VITRIFY_ERROR(RaceError, IntegrityError, 13);          // a file changed while it was examined
VITRIFY_ERROR(PolicyError, ArtifactError, 14);         // forbidden now, in this release, or under this licence
VITRIFY_ERROR(PlatformError, ArtifactError, 15);       // no payload for this CPU or operating system
VITRIFY_ERROR(NativeCodeError, ArtifactError, 16);     // a payload holds more than code, constants and its exports
VITRIFY_ERROR(SchemaError, ArtifactError, 17);         // another interface than payload and caller agree on
VITRIFY_ERROR(ProbeError, ArtifactError, 18);          // other results for the probe inputs than recorded
VITRIFY_ERROR(LeakError, ArtifactError, 19);           // a path of the machine that it was made on

// A call's argument is wrong: a name, dtype, rank, shape or option.
VITRIFY_ERROR(InvalidArgumentError, Error, 1);

// A run that failed; the message names the node of the model.
VITRIFY_ERROR(RunError, Error, 1);
VITRIFY_ERROR(IndexOutOfRangeError, RunError, 1);
VITRIFY_ERROR(ShapeError, RunError, 1);
VITRIFY_ERROR(DivisionError, RunError, 1);
VITRIFY_ERROR(CustomOpError, RunError, 1);
VITRIFY_ERROR(OutOfMemoryError, RunError, 1);
VITRIFY_ERROR(TerminatedError, RunError, 1);
VITRIFY_ERROR(RunLimitError, TerminatedError, 1);

#undef VITRIFY_ERROR

namespace detail {
inline constexpr const char *damaged =
    "the artifact is damaged or was not written by this tool; fetch it again, or build it again";
}

}  // namespace vitrify

#endif
