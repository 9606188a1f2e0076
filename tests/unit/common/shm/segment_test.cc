#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/shm/segment.h"
#include "common/shm/worker_heap.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

ErrorCode open_error(const std::string& name, const std::string& word) {
    auto opened = Segment::open(name, true);
    if (opened) return ErrorCode::kOk;
    INFO(opened.error().message);
    CHECK(opened.error().message.find(word) != std::string::npos);
    return opened.error().code;
}

class Object {
public:
    explicit Object(const std::string& name) : fd_(shm_open(name.c_str(), O_RDWR, 0)) {}
    ~Object() { close(fd_); }
    int fd() const { return fd_; }

private:
    int fd_;
};

}  // namespace

TEST_CASE("Segment: what is made can be opened, read-only too, and says the same", "[shm]") {
    TestSegment made;
    for (const bool writable : {true, false}) {
        auto opened = Segment::open(made.name(), writable);
        REQUIRE(opened);
        CHECK((*opened)->config().task_slots == 1'024);
        CHECK((*opened)->header().cell_id == 42);
        CHECK((*opened)->layout().total_bytes == made->layout().total_bytes);
        CHECK_FALSE((*opened)->retired());
    }
    struct stat info{};
    Object object(made.name());
    REQUIRE(fstat(object.fd(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
    CHECK(static_cast<std::uint64_t>(info.st_blocks) * 512 >= made->layout().total_bytes);
}

TEST_CASE("Segment: a fresh one starts empty", "[shm]") {
    TestSegment made;
    CHECK(load_word(made->task(1'023)).state() == SlotState::kFree);
    CHECK(made->task(5).class_id == kNone32);
    CHECK(made->chunk_owner(15).load() == kNone32);
    CHECK(WorkerRanks(*made).key(3) == kEmptyKey);
    CHECK(made->participant(2).intent_slot.load() == kNone32);
    CHECK(made->job(7).state == JobState::kFree);
    CHECK(made->header().next_worker_number.load() == 1);
}

TEST_CASE("Segment: sections do not overlap and end within the object", "[shm]") {
    for (const std::uint32_t workers : {1U, 7U, 64U, 4'096U}) {
        auto config = small_config(64 * 65, 3);
        config.workers = workers;
        const Layout layout(config);
        const std::uint64_t starts[] = {
            sizeof(Header), layout.participants, layout.task_slots, layout.chunk_owner,
            layout.heap_slot_nodes, layout.heap_group_nodes, layout.dirty, layout.dirty_sum,
            layout.classes, layout.workers, layout.worker_heap, layout.jobs, layout.event_rings,
            layout.dispatch_rings, layout.completion_rings, layout.arena, layout.total_bytes};
        for (std::size_t i = 1; i < std::size(starts); ++i) CHECK(starts[i - 1] <= starts[i]);
        CHECK(layout.heap_slot_nodes % 64 == 0);
        CHECK(layout.worker_heap % 64 == 0);
        CHECK(layout.total_bytes - layout.arena >= config.arena_bytes);
    }
}

TEST_CASE("Segment: impossible sizes are refused by name", "[shm]") {
    const auto refused = [](auto change, const char* word) {
        auto config = small_config();
        change(config);
        const auto made = Segment::create("/reeve-test-refused", config, 1, 1);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == ErrorCode::kInvalidArgument);
        CHECK(made.error().message.find(word) != std::string::npos);
    };
    refused([](auto& c) { c.task_slots = 0; }, "task_slots");
    refused([](auto& c) { c.task_slots = 65; }, "multiple of 64");
    refused([](auto& c) { c.classes = 0; }, "classes");
    refused([](auto& c) { c.workers = kWorkersMax + 1; }, "workers");
    refused([](auto& c) { c.jobs = 0; }, "jobs");
    refused([](auto& c) { c.dispatch_ring = 24; }, "power of two");
    refused([](auto& c) { c.role_event_ring = 2; }, "role_event_ring");
}

TEST_CASE("Segment: no room is refused, with how much is needed, and leaves nothing", "[shm]") {
    auto config = small_config();
    config.arena_bytes = 1ULL << 39;
    const auto made = Segment::create("/reeve-test-huge", config, 1, 1);
    REQUIRE_FALSE(made);
    CHECK(made.error().code == ErrorCode::kResourceExhausted);
    CHECK(made.error().message.find("needs 524") != std::string::npos);
    CHECK(open_error("/reeve-test-huge", "No such file") == ErrorCode::kNotFound);
}

TEST_CASE("Segment: a name in use, and a name nobody uses", "[shm]") {
    TestSegment made;
    const auto again = Segment::create(made.name(), small_config(), 1, 1);
    REQUIRE_FALSE(again);
    CHECK(again.error().code == ErrorCode::kAlreadyExists);
    CHECK(open_error("/reeve-test-nobody", "/reeve-test-nobody") == ErrorCode::kNotFound);
}

TEST_CASE("Segment: a damaged or foreign header is refused with the reason", "[shm]") {
    TestSegment made;
    auto& header = made->header();
    SECTION("magic") {
        header.magic ^= 1;
        CHECK(open_error(made.name(), "wrong magic") == ErrorCode::kDataLoss);
    }
    SECTION("version") {
        header.layout_version = 77;
        CHECK(open_error(made.name(), "layout version 77") == ErrorCode::kFailedPrecondition);
    }
    SECTION("hash") {
        header.layout_hash ^= 1;
        CHECK(open_error(made.name(), "another build") == ErrorCode::kFailedPrecondition);
    }
    SECTION("config") {
        header.config.task_slots = 0xFFFFFFFF;
        CHECK(open_error(made.name(), "task_slots") == ErrorCode::kDataLoss);
    }
    SECTION("config that is possible but not this one") {
        header.config.classes += 1;
        CHECK(open_error(made.name(), "another build") == ErrorCode::kFailedPrecondition);
    }
    SECTION("total size in the header") {
        header.total_bytes -= 4'096;
        CHECK(open_error(made.name(), "size") == ErrorCode::kDataLoss);
    }
    SECTION("phase") {
        header.phase = static_cast<Phase>(9);
        CHECK(open_error(made.name(), "unknown phase") == ErrorCode::kDataLoss);
    }
}

TEST_CASE("Segment: one cut short or made open to others is refused", "[shm]") {
    TestSegment made;
    Object object(made.name());
    SECTION("cut in the middle") {
        REQUIRE(ftruncate(object.fd(), 1 << 16) == 0);
        CHECK(open_error(made.name(), "size 65536") == ErrorCode::kDataLoss);
    }
    SECTION("shorter than the header") {
        REQUIRE(ftruncate(object.fd(), 10) == 0);
        CHECK(open_error(made.name(), "too short") == ErrorCode::kDataLoss);
    }
    SECTION("empty, as a creator leaves it that died at once") {
        REQUIRE(ftruncate(object.fd(), 0) == 0);
        CHECK(open_error(made.name(), "initialised") == ErrorCode::kFailedPrecondition);
    }
    SECTION("readable by the group") {
        REQUIRE(fchmod(object.fd(), 0640) == 0);
        CHECK(open_error(made.name(), "0600") == ErrorCode::kPermissionDenied);
    }
}

TEST_CASE("Segment: a reader of one cut short reads zeros and lets go", "[shm]") {
    TestSegment made;
    const auto reader = Segment::open(made.name(), false);
    const auto other = Segment::open(made.name(), false);
    REQUIRE(reader);
    REQUIRE(other);
    made->header().phase = Phase::kReady;
    made->participant(0).pid = 7;
    made->worker(0).state = WorkerState::kAlive;
    REQUIRE((*reader)->participant(0).pid.load() == 7);
    REQUIRE_FALSE((*reader)->retired());
    Object object(made.name());
    SECTION("to nothing") { REQUIRE(ftruncate(object.fd(), 0) == 0); }
    SECTION("in the middle") { REQUIRE(ftruncate(object.fd(), 4096) == 0); }
    for (const auto* one : {&*reader, &*other}) {
        CHECK((*one)->worker(0).state.load() == WorkerState::kFree);
        CHECK((*one)->retired());
    }
}

TEST_CASE("Segment: another user's is refused", "[shm]") {
    if (geteuid() != 0) return;
    TestSegment made;
    const pid_t child = fork();
    if (child == 0) {
        if (seteuid(65'534) != 0) _exit(3);
        const auto opened = Segment::open(made.name(), false);
        _exit(!opened && opened.error().code == ErrorCode::kPermissionDenied ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("Segment: still initialising, and retired, are told apart", "[shm]") {
    TestSegment made;
    auto opened = Segment::open(made.name(), true);
    REQUIRE(opened);
    made->header().phase = Phase::kInitialising;
    CHECK(open_error(made.name(), "still being initialised") == ErrorCode::kFailedPrecondition);
    made->header().phase = Phase::kReady;
    Segment::retire(made.name());
    CHECK((*opened)->retired());  // who has it mapped sees it
    CHECK(open_error(made.name(), made.name()) == ErrorCode::kNotFound);
    Segment::retire(made.name());  // nothing there: nothing happens
}

TEST_CASE("Segment: a payload outside the arena reads as empty", "[shm]") {
    TestSegment made;
    auto& slot = made->task(0);
    slot.payload_offset = 100;
    slot.payload_bytes = 5;
    made->arena()[100] = 'x';
    CHECK(made->payload(slot).size() == 5);
    CHECK(made->payload(slot)[0] == 'x');
    slot.payload_offset = (1 << 16) - 4;
    CHECK(made->payload(slot).empty());
    slot.payload_offset = ~0ULL - 2;
    CHECK(made->payload(slot).empty());
    slot.payload_offset = 0;
    slot.payload_bytes = 0xFFFFFFFF;
    CHECK(made->payload(slot).empty());
}

}  // namespace reeve::shm
