// Server: every call over a real unix socket against a fake core.
#include "plm/server/server.h"

#include <atomic>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/plm/fake_core.h"

#include "common/base/clock.h"
#include "reeve/v1/reeve.grpc.pb.h"

using namespace reeve;
using reeve::test::FakeCore;
using reeve::test::TempDirectory;

namespace {

struct Fixture {
    explicit Fixture(plm::ServerOptions options = {}) {
        options.socket = dir.file("plm.sock");
        auto started = plm::Server::start(options, core);
        INFO((started ? std::string() : started.error().message));
        REQUIRE(started);
        server = std::move(*started);
    }
    std::string socket() const { return dir.file("plm.sock"); }
    std::unique_ptr<v1::Reeve::Stub> stub() const {
        grpc::ChannelArguments arguments;
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
        arguments.SetMaxReceiveMessageSize(-1);
        return v1::Reeve::NewStub(grpc::CreateCustomChannel(
            "unix:" + socket(), grpc::InsecureChannelCredentials(), arguments));
    }
    TempDirectory dir;
    FakeCore core;
    std::unique_ptr<plm::Server> server;
};

void set_deadline(grpc::ClientContext& context, int seconds = 20) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
}

v1::SubmitRequest one_job(const std::string& key = {}) {
    v1::SubmitRequest request;
    v1::JobSpec& spec = *request.add_jobs();
    spec.mutable_task()->add_argv("true");
    spec.set_key(key);
    return request;
}

grpc::Status info(v1::Reeve::Stub& stub, int seconds = 20) {
    grpc::ClientContext context;
    set_deadline(context, seconds);
    context.set_wait_for_ready(true);
    v1::ServerInfoReply reply;
    return stub.ServerInfo(&context, {}, &reply);
}

template <typename Condition>
bool eventually(Condition condition, int seconds = 20) {
    const std::uint64_t deadline = boot_ns() + static_cast<std::uint64_t>(seconds) * kSecond;
    while (!condition()) {
        if (boot_ns() > deadline) return false;
        usleep(1000);
    }
    return true;
}

int raw_connection(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

// True: the other side closed within the time, false: it keeps the connection.
bool is_closed_by_peer(int fd, int ms) {
    timeval limit{ms / 1000, (ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char byte[256];
    while (true) {
        const ssize_t got = recv(fd, byte, sizeof byte, 0);
        if (got == 0) return true;
        if (got < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
    }
}

// One message out, one back, by raw bytes: for services whose messages are not ours.
std::string raw_call(const std::string& socket, const std::string& method,
                     const std::string& message) {
    grpc::GenericStub stub(
        grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    set_deadline(context);
    grpc::CompletionQueue queue;
    const auto finished = [&queue] {
        void* tag = nullptr;
        bool ok = false;
        return queue.Next(&tag, &ok) && ok;
    };
    auto call = stub.PrepareCall(&context, method, &queue);
    call->StartCall(nullptr);
    if (!finished()) return "no call";
    const grpc::Slice slice(message);
    call->WriteLast(grpc::ByteBuffer(&slice, 1), {}, nullptr);
    if (!finished()) return "no write";
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    if (!finished()) return "no answer";
    std::vector<grpc::Slice> slices;
    if (!answer.Dump(&slices).ok()) return "no bytes";
    std::string bytes;
    for (const grpc::Slice& part : slices) {
        bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
    }
    context.TryCancel();
    grpc::Status status;
    call->Finish(&status, nullptr);
    finished();
    return bytes;
}

}  // namespace

TEST_CASE("Server: health and reflection answer", "[server]") {
    Fixture fixture;
    const std::string service = "\x0A\x0Ereeve.v1.Reeve";
    const std::string check = "/grpc.health.v1.Health/Check";
    CHECK(raw_call(fixture.socket(), check, "") == std::string("\x08\x01"));
    CHECK(raw_call(fixture.socket(), check, service) == std::string("\x08\x01"));
    fixture.server->set_serving(false);
    CHECK(raw_call(fixture.socket(), check, service) == std::string("\x08\x02"));
    const std::string services =
        raw_call(fixture.socket(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                 std::string("\x3A\x01*"));
    CHECK(services.find("reeve.v1.Reeve") != std::string::npos);
}

TEST_CASE("Server: unary calls go to the core and back", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    grpc::ClientContext submit_context;
    set_deadline(submit_context);
    v1::SubmitReply reply;
    REQUIRE(stub->Submit(&submit_context, one_job(), &reply).ok());
    CHECK(reply.job_ids(0) == 1);
    CHECK(fixture.core.last_uid == geteuid());
    grpc::ClientContext bad_context;
    set_deadline(bad_context);
    v1::SubmitRequest bad = one_job();
    bad.mutable_jobs(0)->set_priority(1 << 30);
    const grpc::Status refused = stub->Submit(&bad_context, bad, &reply);
    CHECK(refused.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
    CHECK(refused.error_message().find("priority") == 0);
    CHECK(fixture.core.submissions == 1);
    grpc::ClientContext head_context;
    set_deadline(head_context);
    v1::AuditHeadReply head;
    CHECK(stub->AuditHead(&head_context, {}, &head).error_code() == grpc::StatusCode::NOT_FOUND);
    grpc::ClientContext act_context;
    set_deadline(act_context);
    v1::ActRequest act;
    act.add_selections()->set_job(9);
    v1::ActReply acted;
    REQUIRE(stub->Act(&act_context, act, &acted).ok());
    CHECK(acted.results(0).job() == 9);
    grpc::ClientContext drain_context;
    set_deadline(drain_context);
    v1::DrainReply drained;
    CHECK(stub->Drain(&drain_context, {}, &drained).error_code() ==
          grpc::StatusCode::INVALID_ARGUMENT);
    CHECK(info(*stub).ok());
}

TEST_CASE("Server: the socket is 0600, a stale one is replaced, a foreign file is not",
          "[server]") {
    const TempDirectory dir;
    FakeCore core;
    plm::ServerOptions options;
    options.socket = dir.file("plm.sock");
    for (int round = 0; round < 2; ++round) {
        // A socket nobody listens on any more.
        const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        options.socket.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(bind(stale, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        close(stale);
        auto server = plm::Server::start(options, core);
        REQUIRE(server);
        struct stat info {};
        REQUIRE(lstat(options.socket.c_str(), &info) == 0);
        CHECK((info.st_mode & 0777) == 0600);
        CHECK(S_ISSOCK(info.st_mode));
        server->reset();
        CHECK(access(options.socket.c_str(), F_OK) != 0);
    }
    REQUIRE(close(creat(options.socket.c_str(), 0600)) == 0);
    auto refused = plm::Server::start(options, core);
    REQUIRE(!refused);
    CHECK(refused.error().code == ErrorCode::kFailedPrecondition);
    unlink(options.socket.c_str());
    REQUIRE(chmod(dir.path().c_str(), 0755) == 0);
    CHECK(plm::Server::start(options, core).error().code == ErrorCode::kPermissionDenied);
    REQUIRE(chmod(dir.path().c_str(), 0700) == 0);
    options.socket = dir.file(std::string(120, 's'));
    CHECK(plm::Server::start(options, core).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("Server: an oversized message is refused and the connection lives on", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    v1::SubmitRequest large = one_job();
    for (int i = 0; i < 20; ++i) *large.add_jobs() = one_job().jobs(0);
    for (v1::JobSpec& job : *large.mutable_jobs()) {
        job.mutable_task()->set_stdin_data(std::string(1'000'000, 'd'));
    }
    grpc::ClientContext context;
    set_deadline(context);
    v1::SubmitReply reply;
    CHECK(stub->Submit(&context, large, &reply).error_code() ==
          grpc::StatusCode::RESOURCE_EXHAUSTED);
    CHECK(fixture.core.submissions == 0);
    CHECK(info(*stub).ok());
    large.mutable_jobs()->DeleteSubrange(0, 8);
    grpc::ClientContext again;
    set_deadline(again);
    REQUIRE(stub->Submit(&again, large, &reply).ok());
    CHECK(reply.job_ids_size() == 13);
}

TEST_CASE("Server: a submit stream answers in order and never reads too far ahead", "[server]") {
    plm::ServerOptions options;
    options.batches_outstanding_max = 4;
    Fixture fixture(options);
    auto stub = fixture.stub();
    grpc::ClientContext context;
    set_deadline(context, 60);
    auto stream = stub->SubmitStream(&context);
    fixture.core.hold_answers(true);
    std::thread writer([&] {
        for (int i = 0; i < 200; ++i) {
            v1::SubmitRequest request;
            for (int j = 0; j < 10; ++j) *request.add_jobs() = one_job().jobs(0);
            if (!stream->Write(request)) return;
        }
        stream->WritesDone();
    });
    usleep(100'000);
    fixture.core.hold_answers(false);
    std::vector<std::uint64_t> ids;
    v1::SubmitReply reply;
    while (stream->Read(&reply)) {
        for (const std::uint64_t id : reply.job_ids()) ids.push_back(id);
    }
    writer.join();
    CHECK(stream->Finish().ok());
    REQUIRE(ids.size() == 2000);
    for (std::size_t i = 0; i < ids.size(); ++i) REQUIRE(ids[i] == i + 1);
}

TEST_CASE("Server: a refused batch ends the stream after the replies before it", "[server]") {
    Fixture fixture;
    fixture.core.refuse_key = "no";
    auto stub = fixture.stub();
    for (const bool by_core : {true, false}) {
        grpc::ClientContext context;
        set_deadline(context);
        auto stream = stub->SubmitStream(&context);
        CHECK(stream->Write(one_job()));
        CHECK(stream->Write(one_job()));
        v1::SubmitRequest bad = one_job(by_core ? "no" : "");
        if (!by_core) bad.mutable_jobs(0)->mutable_task()->clear_argv();
        stream->Write(bad);
        int replies = 0;
        v1::SubmitReply reply;
        while (stream->Read(&reply)) ++replies;
        CHECK(replies == 2);
        CHECK(stream->Finish().error_code() == (by_core ? grpc::StatusCode::RESOURCE_EXHAUSTED
                                                        : grpc::StatusCode::INVALID_ARGUMENT));
    }
    CHECK(info(*stub).ok());
}

TEST_CASE("Server: a stream whose client vanishes is cleaned up, answers or not", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    fixture.core.hold_answers(true);
    for (int i = 0; i < 20; ++i) {
        grpc::ClientContext context;
        auto stream = stub->SubmitStream(&context);
        stream->Write(one_job());
        context.TryCancel();
        (void)stream->Finish();
    }
    fixture.core.hold_answers(false);
    CHECK(info(*stub).ok());
}

TEST_CASE("Server: watch coalesces states, keeps results in order, says done", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    grpc::ClientContext context;
    set_deadline(context);
    v1::WatchRequest request;
    request.add_jobs(1);
    request.set_interval_ms(50);
    auto stream = stub->Watch(&context, request);
    REQUIRE(eventually([&] { return fixture.core.watches == 1; }));
    fixture.core.with_sinks([](auto& sinks) {
        for (std::uint32_t i = 1; i <= 10'000; ++i) {
            v1::JobStatus status;
            status.set_job(1 + i % 3);
            status.set_succeeded(i);
            std::vector<v1::TaskResult> results(1);
            results[0].set_element(i);
            sinks[0]->push({status}, std::move(results));
        }
        sinks[0]->finish({});
    });
    v1::WatchReply reply;
    std::vector<std::uint64_t> elements;
    std::map<std::uint64_t, std::uint64_t> newest;
    std::size_t states = 0;
    bool done = false;
    while (stream->Read(&reply)) {
        CHECK(!done);
        for (const auto& result : reply.results()) elements.push_back(result.element());
        for (const auto& job : reply.jobs()) newest[job.job()] = job.succeeded();
        states += static_cast<std::size_t>(reply.jobs_size());
        done = reply.done();
    }
    CHECK(done);
    CHECK(stream->Finish().ok());
    REQUIRE(elements.size() == 10'000);
    for (std::size_t i = 0; i < elements.size(); ++i) REQUIRE(elements[i] == i + 1);
    CHECK(newest == std::map<std::uint64_t, std::uint64_t>{{1, 9999}, {2, 10'000}, {3, 9998}});
    CHECK(states < 10'000);
}

TEST_CASE("Server: states alone wait for the interval and then come", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    grpc::ClientContext context;
    set_deadline(context);
    v1::WatchRequest request;
    request.add_jobs(1);
    request.set_interval_ms(300);
    auto stream = stub->Watch(&context, request);
    REQUIRE(eventually([&] { return fixture.core.watches == 1; }));
    const auto push = [&](std::uint64_t value) {
        fixture.core.with_sinks([value](auto& sinks) {
            v1::JobStatus status;
            status.set_job(1);
            status.set_succeeded(value);
            sinks[0]->push({status}, {});
        });
    };
    v1::WatchReply reply;
    push(1);
    REQUIRE(stream->Read(&reply));  // the first goes at once
    const std::uint64_t first = boot_ns();
    push(2);
    push(3);
    REQUIRE(stream->Read(&reply));
    CHECK(boot_ns() - first > 200 * kMillisecond);
    REQUIRE(reply.jobs_size() == 1);
    CHECK(reply.jobs(0).succeeded() == 3);
    context.TryCancel();
    while (stream->Read(&reply)) {
    }
    std::atomic<std::size_t> left{1};
    CHECK(eventually([&] {
        fixture.core.with_sinks([&left](auto& sinks) { left = sinks.size(); });
        return left == 0;
    }));
}

TEST_CASE("Server: a watcher that does not read is cut off", "[server]") {
    plm::ServerOptions options;
    options.watch_results_max = 1000;
    Fixture fixture(options);
    auto stub = fixture.stub();
    grpc::ClientContext context;
    set_deadline(context);
    v1::WatchRequest request;
    request.add_jobs(1);
    auto stream = stub->Watch(&context, request);
    REQUIRE(eventually([&] { return fixture.core.watches == 1; }));
    std::atomic<bool> cut{false};
    fixture.core.with_sinks([&cut](auto& sinks) {
        for (int i = 0; i < 1000 && !cut; ++i) {
            std::vector<v1::TaskResult> results(500);
            for (auto& result : results) result.set_detail(std::string(1000, 'd'));
            cut = !sinks[0]->push({}, std::move(results));
        }
    });
    CHECK(eventually([&] { return cut.load(); }));
    v1::WatchReply reply;
    while (stream->Read(&reply)) {
    }
    CHECK(stream->Finish().error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_CASE("Server: shutdown ends idle streams at once and refuses what comes", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    grpc::ClientContext watch_context;
    v1::WatchRequest request;
    request.add_jobs(1);
    auto watch = stub->Watch(&watch_context, request);
    grpc::ClientContext submit_context;
    auto submit = stub->SubmitStream(&submit_context);
    REQUIRE(submit->Write(one_job()));
    v1::SubmitReply reply;
    REQUIRE(submit->Read(&reply));
    REQUIRE(eventually([&] { return fixture.core.watches == 1; }));
    const std::uint64_t begin = boot_ns();
    fixture.server->shutdown(10'000);
    CHECK(boot_ns() - begin < 3 * kSecond);
    v1::WatchReply state;
    CHECK(!watch->Read(&state));
    CHECK(watch->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
    CHECK(!submit->Read(&reply));
    CHECK(submit->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
    CHECK(access(fixture.socket().c_str(), F_OK) != 0);
}

TEST_CASE("Server: another user is turned away before a byte is read", "[server]") {
    if (geteuid() != 0) {
        WARN("skipped: becoming another user needs root");
        return;
    }
    Fixture fixture;
    REQUIRE(chmod(fixture.dir.path().c_str(), 0755) == 0);
    REQUIRE(chmod(fixture.socket().c_str(), 0666) == 0);
    // Only raw calls after the fork: gRPC's threads are not in the child.
    const std::string path = fixture.socket();
    const pid_t child = fork();
    if (child == 0) {
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(3);
        const int fd = raw_connection(path);
        if (fd < 0) _exit(4);
        _exit(is_closed_by_peer(fd, 5000) ? 0 : 5);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    auto stub = fixture.stub();
    CHECK(info(*stub).ok());
}

TEST_CASE("Server: running out of descriptors does not end it", "[server]") {
    Fixture fixture;
    auto stub = fixture.stub();
    REQUIRE(info(*stub).ok());
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    // The clients are another process: the limit is to be the server's alone.
    int go[2];
    int up[2];
    REQUIRE(pipe(go) == 0);
    REQUIRE(pipe(up) == 0);
    const std::string path = fixture.socket();
    const pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        (void)!read(go[0], &byte, 1);
        for (int i = 0; i < 300; ++i) (void)raw_connection(path);
        (void)!write(up[1], &byte, 1);
        (void)!read(go[0], &byte, 1);
        _exit(0);
    }
    rlimit tight{64, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    char byte = 'x';
    (void)!write(go[1], &byte, 1);
    (void)!read(up[0], &byte, 1);  // all 300 are connected, or were turned away
    CHECK(info(*stub, 5).ok());    // an old connection is served meanwhile
    (void)!write(go[1], &byte, 1);
    waitpid(child, nullptr, 0);
    auto fresh = fixture.stub();
    CHECK(info(*fresh, 5).ok());
    setrlimit(RLIMIT_NOFILE, &before);
    for (const int fd : {go[0], go[1], up[0], up[1]}) close(fd);
}

TEST_CASE("Server: connections beyond the limit are closed, and room comes back", "[server]") {
    plm::ServerOptions options;
    options.connections_max = 5;
    Fixture fixture(options);
    std::vector<int> held;
    for (int i = 0; i < 5; ++i) held.push_back(raw_connection(fixture.socket()));
    for (const int fd : held) CHECK(!is_closed_by_peer(fd, 100));
    const int sixth = raw_connection(fixture.socket());
    CHECK(is_closed_by_peer(sixth, 5000));
    close(sixth);
    for (const int fd : held) close(fd);
    auto stub = fixture.stub();
    CHECK(info(*stub).ok());
}
