#include "plm/server/server.h"

#include <chrono>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_posix.h>

#include "plm/server/connections.h"
#include "plm/server/service.h"
#include "plm/server/validate.h"

namespace reeve::plm {

namespace {

constexpr int kMetadataBytesMax = 64 << 10;
constexpr int kPingIntervalMs = 1000;  // clients may ping this often
constexpr std::size_t kMemoryQuota = 1ULL << 30;

void set_arguments(grpc::ServerBuilder& builder, const ServerOptions& options) {
    builder.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax));
    builder.SetMaxSendMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                               static_cast<int>(options.streams_per_connection_max));
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                               kPingIntervalMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    // Reflection is a synchronous service; one poller is enough for it.
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    grpc::ResourceQuota quota("reeve-plm");
    quota.Resize(kMemoryQuota);
    builder.SetResourceQuota(quota);
}

}  // namespace

struct Server::Impl {
    Impl(const ServerOptions& given, Backend& backend)
        : options(given), context{backend, options, identities, {}, {}}, service(context) {}

    ServerOptions options;
    IdentityTable identities;
    ServiceContext context;
    Service service;
    std::unique_ptr<grpc::Server> grpc_server;
    std::unique_ptr<Acceptor> acceptor;
    bool stopped = false;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
    shutdown(1000);
}

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, Backend& backend) {
    auto impl = std::make_unique<Impl>(options, backend);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    set_arguments(builder, options);
    builder.RegisterService(&impl->service);
    impl->grpc_server = builder.BuildAndStart();
    if (!impl->grpc_server) return fail(ErrorCode::kInternal, "gRPC refused to start a server");
    grpc::Server* raw = impl->grpc_server.get();
    AcceptorOptions accepting{options.socket, options.connections_max, options.any_user};
    auto acceptor = Acceptor::start(accepting, impl->identities,
                                    [raw](int fd) { grpc::AddInsecureChannelFromFd(raw, fd); });
    std::unique_ptr<Server> server(new Server(std::move(impl)));
    if (!acceptor) return fail(std::move(acceptor).error().with("opening the PLM's socket"));
    server->impl_->acceptor = std::move(*acceptor);
    server->set_serving(true);
    return server;
}

void Server::set_serving(bool serving) {
    grpc::HealthCheckServiceInterface* health = impl_->grpc_server->GetHealthCheckService();
    if (health == nullptr) return;
    health->SetServingStatus(serving);
    health->SetServingStatus(v1::Reeve::service_full_name(), serving);
}

void Server::shutdown(std::uint64_t deadline_ms) {
    if (impl_->stopped) return;
    impl_->stopped = true;
    impl_->acceptor.reset();
    const Error stopping{ErrorCode::kUnavailable, "the PLM is stopping; try again"};
    impl_->context.watches.end_all(stopping);
    impl_->context.submit_streams.end_all(stopping);
    impl_->grpc_server->Shutdown(std::chrono::system_clock::now() +
                                 std::chrono::milliseconds(deadline_ms));
    impl_->grpc_server->Wait();
}

}  // namespace reeve::plm
