#include "common/shm/segment.h"

#include <cerrno>
#include <new>
#include <optional>

#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/shm/bus_guard.h"

namespace reeve::shm {

namespace bip = boost::interprocess;

struct Segment::Mapping {
    bip::mapped_region region;
    std::optional<BusGuard> guard;  // of a read-only mapping; goes before it
    ino_t inode = 0;  // of the object mapped; another may come to stand under its name
};

namespace {

std::string with_slash(const std::string& name) {
    return name.starts_with('/') ? name : "/" + name;
}

tl::unexpected<Error> fail_boost(const std::string& what,
                                 const bip::interprocess_exception& error) {
    const int number = error.get_native_error();
    if (number != 0) return fail_errno(what, number);
    return fail(ErrorCode::kInternal, what + ": " + error.what());
}

std::string megabytes(std::uint64_t bytes) {
    return std::to_string((bytes >> 20) + 1) + " MiB";
}

int descriptor(const bip::shared_memory_object& object) {
    return object.get_mapping_handle().handle;
}

ino_t inode_of(int fd) {
    struct stat info {};
    return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

constexpr std::size_t kHugePage = 2U << 20;

// At an address where the kernel can map whole huge pages, if there is one to be had.
bip::mapped_region map(const bip::shared_memory_object& object, bip::mode_t mode,
                       std::size_t bytes) {
    if (bytes >= kHugePage) {
        void* room = mmap(nullptr, bytes + kHugePage, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room != MAP_FAILED) {
            const auto past = reinterpret_cast<std::uintptr_t>(room) % kHugePage;
            munmap(room, bytes + kHugePage);
            try {
                return bip::mapped_region(object, mode, 0, bytes,
                                          static_cast<char*>(room) + (kHugePage - past));
            } catch (const bip::interprocess_exception&) {
                // Another thread took the address meanwhile.
            }
        }
    }
    return bip::mapped_region(object, mode, 0, bytes);
}

// A million slots on pages of 4 KiB cost a walk of the page tables for nearly every slot looked at,
// half of a claim's time. The kernel need not agree: without, everything is as right and slower.
void ask_for_huge_pages(const Segment& segment) {
    constexpr int kCollapse = 25;  // MADV_COLLAPSE, since Linux 6.1; glibc 2.36 does not name it
    (void)madvise(segment.bytes(0), segment.layout().total_bytes / kHugePage * kHugePage,
                  kCollapse);
}

// Gives the object its blocks. ftruncate alone succeeds on a full tmpfs and the first touch of a
// missing page is SIGBUS, in whichever process gets there first.
Status allocate(int fd, const std::string& name, std::uint64_t bytes) {
    struct statvfs room {};
    if (fstatvfs(fd, &room) == 0 && room.f_blocks != 0) {
        const auto available = std::uint64_t{room.f_bavail} * room.f_frsize;
        if (available < bytes) {
            return fail(ErrorCode::kResourceExhausted,
                        "segment " + name + " needs " + megabytes(bytes) + ", /dev/shm has " +
                            megabytes(available) + "; make room or ask for fewer slots");
        }
    }
    int error = EINTR;
    while (error == EINTR) error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
    if (error == 0) return {};
    if (error == ENOSPC || error == ENOMEM) {
        return fail(ErrorCode::kResourceExhausted,
                    "segment " + name + " needs " + megabytes(bytes) +
                        ", /dev/shm has no room for it; make room or ask for fewer slots");
    }
    return fail_errno("allocate segment " + name, error);
}

template <typename T>
void construct(const Segment& segment, std::uint64_t section, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) new (&segment.at<T>(section, i)) T();
}

// The object is zero; only what starts as something else is written.
void fill(const Segment& segment, std::uint64_t cell_id, std::uint32_t generation) {
    const auto& layout = segment.layout();
    const auto& config = layout.config;
    construct<Participant>(segment, layout.participants, kParticipants);
    construct<TaskSlot>(segment, layout.task_slots, config.task_slots);
    for (std::uint32_t i = 0; i < layout.chunks; ++i) segment.chunk_owner(i).store(kNone32);
    construct<HeapNode>(segment, layout.heap_slot_nodes, config.task_slots);
    construct<HeapNode>(segment, layout.heap_group_nodes, std::uint64_t{layout.chunks} * 8);
    construct<ClassEntry>(segment, layout.classes, config.classes);
    construct<WorkerSlot>(segment, layout.workers, config.workers);
    for (std::uint32_t i = 0; i < config.workers; ++i) {
        segment.at<std::atomic<std::uint64_t>>(layout.worker_heap, i).store(kEmptyKey);
    }
    construct<RankFloor>(segment, layout.rank_floors, layout.rank_groups);
    construct<JobEntry>(segment, layout.jobs, config.jobs);

    auto& header = *new (&segment.header()) Header();
    header.layout_version = kLayoutVersion;
    header.layout_hash = layout.hash;
    header.total_bytes = layout.total_bytes;
    header.cell_id = cell_id;
    header.config = config;
    header.created_wall_ns = wall_ns();
    header.generation = generation;
    // Last: an opener that sees no magic yet says "still being initialised".
    __atomic_store_n(&header.magic, kMagic, __ATOMIC_RELEASE);
}

Status check_file(int fd, const std::string& name) {
    struct stat info {};
    if (fstat(fd, &info) != 0) return fail_errno("segment " + name, errno);
    if (geteuid() != 0 && info.st_uid != geteuid()) {
        return fail(ErrorCode::kPermissionDenied,
                    "segment " + name + " belongs to user id " + std::to_string(info.st_uid));
    }
    if ((info.st_mode & 077) != 0) {
        return fail(ErrorCode::kPermissionDenied,
                    "segment " + name + " is open to other users (mode must be 0600); remove it");
    }
    if (static_cast<std::uint64_t>(info.st_size) < sizeof(Header)) {
        return fail(info.st_size == 0 ? ErrorCode::kFailedPrecondition : ErrorCode::kDataLoss,
                    "segment " + name +
                        (info.st_size == 0 ? " is still being initialised"
                                           : " is too short for its header"));
    }
    return {};
}

tl::unexpected<Error> damaged(const std::string& name, const std::string& what) {
    return fail(ErrorCode::kDataLoss,
                "segment " + name + " is damaged (" + what + "); restart the plm to rebuild it");
}

// `raw` may be anything; returns the config once everything agrees.
Result<SegmentConfig> check_header(const Header& raw, std::uint64_t bytes,
                                   const std::string& name) {
    const auto magic = __atomic_load_n(&raw.magic, __ATOMIC_ACQUIRE);
    const auto phase = raw.phase.load();
    if (magic == 0 && phase == Phase::kInitialising) {
        return fail(ErrorCode::kFailedPrecondition,
                    "segment " + name + " is still being initialised");
    }
    if (magic != kMagic) return damaged(name, "wrong magic");
    if (raw.layout_version != kLayoutVersion) {
        return fail(ErrorCode::kFailedPrecondition,
                    "segment " + name + " has layout version " +
                        std::to_string(raw.layout_version) + ", this reeve speaks " +
                        std::to_string(kLayoutVersion) + "; stop the cell that made it");
    }
    const SegmentConfig config = raw.config;
    if (auto checked = check_config(config); !checked)
        return damaged(name, checked.error().message);
    const Layout layout(config);
    if (raw.layout_hash != layout.hash) {
        return fail(
            ErrorCode::kFailedPrecondition,
            "segment " + name + " was laid out by another build of reeve; restart the cell");
    }
    if (raw.total_bytes != layout.total_bytes || bytes != layout.total_bytes) {
        return damaged(name, "size " + std::to_string(bytes) + ", expected " +
                                 std::to_string(layout.total_bytes));
    }
    if (phase == Phase::kInitialising) {
        return fail(ErrorCode::kFailedPrecondition,
                    "segment " + name + " is still being initialised");
    }
    if (phase == Phase::kRetired) {
        return fail(ErrorCode::kFailedPrecondition,
                    "segment " + name + " is retired; the cell has a newer one");
    }
    if (phase != Phase::kReady) return damaged(name, "unknown phase");
    return config;
}

}  // namespace

Segment::Segment(std::string name, const SegmentConfig& config, std::unique_ptr<Mapping> mapping)
    : name_(std::move(name)),
      layout_(config),
      mapping_(std::move(mapping)),
      base_(static_cast<char*>(mapping_->region.get_address())) {}

Segment::~Segment() = default;

Result<std::unique_ptr<Segment>> Segment::create(const std::string& plain_name,
                                                 const SegmentConfig& config, std::uint64_t cell_id,
                                                 std::uint32_t generation) {
    REEVE_TRY(check_config(config));
    const auto name = with_slash(plain_name);
    const Layout layout(config);
    try {
        bip::permissions owner_only(0600);
        bip::shared_memory_object object(bip::create_only, name.c_str(), bip::read_write,
                                         owner_only);
        if (auto room = allocate(descriptor(object), name, layout.total_bytes); !room) {
            remove(name);
            return fail(std::move(room).error());
        }
        auto mapping = std::make_unique<Mapping>();
        mapping->region = map(object, bip::read_write, layout.total_bytes);
        mapping->inode = inode_of(descriptor(object));
        std::unique_ptr<Segment> segment(new Segment(name, config, std::move(mapping)));
        fill(*segment, cell_id, generation);
        ask_for_huge_pages(*segment);
        return segment;
    } catch (const bip::interprocess_exception& error) {
        return fail_boost("create segment " + name, error);
    }
}

Result<std::unique_ptr<Segment>> Segment::open(const std::string& plain_name, bool writable) {
    const auto name = with_slash(plain_name);
    const auto mode = writable ? bip::read_write : bip::read_only;
    try {
        bip::shared_memory_object object(bip::open_only, name.c_str(), mode);
        REEVE_TRY(check_file(descriptor(object), name));
        auto mapping = std::make_unique<Mapping>();
        bip::offset_t bytes = 0;
        if (!object.get_size(bytes)) return fail_errno("segment " + name, errno);
        mapping->region = map(object, mode, static_cast<std::size_t>(bytes));
        if (!writable) {
            mapping->guard.emplace(mapping->region.get_address(), mapping->region.get_size());
        }
        mapping->inode = inode_of(descriptor(object));
        const auto& header = *static_cast<const Header*>(mapping->region.get_address());
        REEVE_TRY_ASSIGN(const auto config, check_header(header, mapping->region.get_size(), name));
        return std::unique_ptr<Segment>(new Segment(name, config, std::move(mapping)));
    } catch (const bip::interprocess_exception& error) {
        return fail_boost("open segment " + name, error);
    }
}

Status Segment::check_mapped() const {
    struct stat named {};
    const auto path = "/dev/shm" + name_;
    if (::stat(path.c_str(), &named) != 0) {
        return fail(ErrorCode::kFailedPrecondition, "segment " + name_ + " was removed");
    }
    if (mapping_->inode != named.st_ino) {
        return fail(ErrorCode::kFailedPrecondition, "segment " + name_ + " was replaced");
    }
    if (static_cast<std::uint64_t>(named.st_size) != layout_.total_bytes) {
        return damaged(name_, "size " + std::to_string(named.st_size));
    }
    REEVE_TRY(check_header(header(), mapping_->region.get_size(), name_));
    return {};
}

void Segment::remove(const std::string& name) {
    bip::shared_memory_object::remove(with_slash(name).c_str());
}

void Segment::retire(const std::string& plain_name) {
    const auto name = with_slash(plain_name);
    try {
        bip::shared_memory_object object(bip::open_only, name.c_str(), bip::read_write);
        bip::offset_t size = 0;
        if (object.get_size(size) && size >= static_cast<bip::offset_t>(sizeof(Header))) {
            const bip::mapped_region region(object, bip::read_write, 0, sizeof(Header));
            static_cast<Header*>(region.get_address())->phase.store(Phase::kRetired);
        }
    } catch (const bip::interprocess_exception&) {
        // Not there, or not ours: nobody can be using it through us.
    }
    remove(name);
}

std::string_view Segment::payload(const TaskSlot& slot) const {
    const auto offset = slot.payload_offset;
    const std::uint64_t bytes = slot.payload_bytes;
    if (offset > config().arena_bytes || bytes > config().arena_bytes - offset) return {};
    return {arena() + offset, bytes};
}

}  // namespace reeve::shm
