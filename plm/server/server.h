// Server is the PLM's gRPC front on the cell's unix socket: it translates, checks and hands over.
//
// Callback API throughout: no thread waits for a client. Acceptor (connections.h) owns the socket;
// health ("" and reeve.v1.Reeve) and reflection are on. The Backend must outlive the Server and
// must answer every call it was given before shutdown() can return.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "plm/server/backend.h"

namespace reeve::plm {

struct ServerOptions {
    std::string socket;           // Cell::socket
    std::string audit_directory;  // Cell::audit, for Events
    std::size_t connections_max = 1000;
    std::uint32_t streams_per_connection_max = 128;
    std::uint32_t batches_outstanding_max = 128;  // per SubmitStream
    std::size_t watch_results_max = 100'000;     // waiting for one slow watcher
    std::size_t watches_max = 1000;
    bool any_user = false;
};

class Server {
public:
    static Result<std::unique_ptr<Server>> start(const ServerOptions& options, Backend& backend);
    ~Server();  // shutdown() with one second, unless it was called
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // What the health service tells; false while the ledger does not acknowledge.
    void set_serving(bool serving);
    // No new connections or calls; ends the streams, gives unary calls until the deadline, cancels
    // what is left. Idle streams do not delay it.
    void shutdown(std::uint64_t deadline_ms);

private:
    struct Impl;
    explicit Server(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace reeve::plm
