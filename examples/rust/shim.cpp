// What Rust leaves to the C++ loader: the artifact is verified and its payload loaded. Runs then go through vitrify.h.
#include <cstring>
#include <memory>
#include <new>
#include <vitrify.hpp>

extern "C" {

struct Opened {
    const vt_payload_table *table;
    vt_session *session;
    void *owner;  // for artifact_close, after the last run
};

// 0, or the exit status of the error, whose text is put into `message`.
int artifact_open(const char *path, int threads, Opened *opened, char *message, std::size_t size) {
    try {
        auto session = std::make_unique<vitrify::Session>(vitrify::load(path), threads);
        const vitrify::Session::Native native = session->native();
        *opened = {native.table, native.session, session.release()};
        return 0;
    } catch (const vitrify::Error &error) {
        std::strncpy(message, error.what(), size - 1);
        return error.code();
    } catch (const std::exception &error) {
        std::strncpy(message, error.what(), size - 1);
        return 70;
    }
}

void artifact_close(void *owner) {
    delete static_cast<vitrify::Session *>(owner);
}
}
