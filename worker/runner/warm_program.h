// WarmProgram is a program in any language that answers function tasks over stdin and stdout, kept
// running from task to task. The runner is its parent and speaks for it.
//
// Its first line says how it wants to talk, when it is ready: `reeve-json` or `reeve-frames`.
//   json    a line each way: {"job":1,"element":0,"attempt":1,"function":"f","data":"..."} and
//           {"result":"..."} or {"code":3,"error":"why"}. Bytes that are no UTF-8 travel as
//           data_base64 and result_base64.
//   frames  u32 length (big-endian) of what follows: a JSON object as above without data or
//           result, a newline, and the bytes as they are.
// What it writes to stderr during a task goes to the task's output file. When it ends, or breaks
// the protocol, the task fails and the next one meets a fresh program. A cancelled task's program
// gets TERM; the agent kills the runner, and all below it, after the grace. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "common/base/result.h"
#include "worker/runner/handlers.h"

namespace reeve::worker {

struct WarmOptions {
    std::string command;              // for /bin/sh -c
    std::uint32_t recycle_after = 0;  // 0: never
    std::string output_root;
};

class WarmProgram {
public:
    explicit WarmProgram(WarmOptions options) : options_(std::move(options)) {}
    ~WarmProgram();
    WarmProgram(const WarmProgram&) = delete;
    WarmProgram& operator=(const WarmProgram&) = delete;

    // Starts it and waits until it is ready. Errors: how it ended, or what it said instead.
    Status start();
    // A handler: the reply's code; fills call.result, call.error and call.status.
    int run(Call& call);

private:
    enum class Protocol { kNone, kJson, kFrames };
    struct Reply {
        int code = 0;
        std::string error;
        std::string result;
    };

    Status spawn();
    Status read_hello();
    Status send(const Call& call);
    Result<Reply> receive(const Call& call);
    Result<Reply> parse(std::string_view head, std::string_view bytes) const;
    bool take_message(std::string& message);  // from what was read, if it is all there
    Status wait_readable(const Call* call);
    Status write_all(std::string_view bytes);
    void drain_stderr(const Call* call);
    void write_log(const Call& call, std::string_view text);
    std::string end(int patience_ms);  // returns how it ended
    bool running() const { return pid_ > 0; }

    WarmOptions options_;
    Protocol protocol_ = Protocol::kNone;
    pid_t pid_ = 0;
    int in_ = -1;   // its stdin
    int out_ = -1;  // its stdout
    int err_ = -1;
    std::string read_;  // of stdout, not yet taken
    std::uint32_t calls_ = 0;
    bool told_ = false;  // TERM was sent
};

}  // namespace reeve::worker
