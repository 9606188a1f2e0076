#include "plm/ledger/wal_check.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/bytes.h"

namespace reeve::plm {

namespace {

constexpr std::size_t kHeaderBytes = 32;
constexpr std::size_t kFrameBytes = 24;
constexpr std::uint32_t kMagic = 0x377F0682;  // its last bit: checksum words are big-endian
constexpr std::uint32_t kVersion = 3007000;

struct Sums {
    std::uint32_t first = 0;
    std::uint32_t second = 0;
    bool operator==(const Sums&) const = default;
};

struct Frame {
    std::uint32_t page = 0;
    bool commit = false;
    bool present = false;  // its salts are this log's
};

class File {
public:
    explicit File(int fd) : fd_(fd) {}
    ~File() { close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    Result<std::uint64_t> size() const {
        struct stat info {};
        if (fstat(fd_, &info) != 0) return fail_errno("stat", errno);
        return static_cast<std::uint64_t>(info.st_size);
    }
    Status read(std::uint64_t offset, char* out, std::size_t size) const {
        while (size > 0) {
            const ssize_t got = pread(fd_, out, size, static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail_errno("read", errno);
            if (got == 0) return fail(ErrorCode::kDataLoss, "the file shrank while it was read");
            out += got;
            size -= static_cast<std::size_t>(got);
            offset += static_cast<std::uint64_t>(got);
        }
        return {};
    }

private:
    int fd_;
};

class Walk {
public:
    Walk(const std::string& path, const File& file, std::uint64_t bytes, WalTail tail)
        : path_(path), file_(file), bytes_(bytes), tail_(tail) {}

    Result<WalReport> run() {
        REEVE_TRY_ASSIGN(const bool usable, read_header());
        if (!usable) return WalReport{bytes_, 0, 0, 0};
        frames_ = (bytes_ - kHeaderBytes) / frame_size();
        REEVE_TRY(walk_sound_frames());
        return judge_the_rest();
    }

private:
    std::uint64_t frame_size() const { return kFrameBytes + page_size_; }
    std::uint64_t offset_of(std::uint64_t frame) const {
        return kHeaderBytes + frame * frame_size();
    }

    void add(Sums& sums, const char* data, std::size_t size) const {
        for (std::size_t i = 0; i + 8 <= size; i += 8) {
            std::uint32_t words[2];
            std::memcpy(words, data + i, sizeof words);
            if (big_endian_) {
                words[0] = __builtin_bswap32(words[0]);
                words[1] = __builtin_bswap32(words[1]);
            }
            sums.first += words[0] + sums.second;
            sums.second += words[1] + sums.first;
        }
    }

    // False: a log that was never begun (shorter than its header, or nothing but zeros).
    Result<bool> read_header() {
        char raw[kHeaderBytes];
        if (bytes_ < kHeaderBytes) return false;
        REEVE_TRY(file_.read(0, raw, sizeof raw));
        const auto magic = get_big_endian<std::uint32_t>(raw);
        big_endian_ = (magic & 1) != 0;
        page_size_ = get_big_endian<std::uint32_t>(raw + 8);
        salts_[0] = get_big_endian<std::uint32_t>(raw + 16);
        salts_[1] = get_big_endian<std::uint32_t>(raw + 20);
        add(sums_, raw, 24);
        const Sums stored{get_big_endian<std::uint32_t>(raw + 24),
                          get_big_endian<std::uint32_t>(raw + 28)};
        const bool sound = (magic & ~1U) == kMagic && stored == sums_ &&
                           get_big_endian<std::uint32_t>(raw + 4) == kVersion &&
                           std::has_single_bit(page_size_) && page_size_ >= 512 &&
                           page_size_ <= 65536;
        if (sound) return true;
        REEVE_TRY_ASSIGN(const bool zero, all_zero());
        if (zero) return false;
        return damaged(0, "its header does not match its checksum");
    }

    Result<bool> all_zero() const {
        std::vector<char> block(1u << 16);
        for (std::uint64_t at = 0; at < bytes_; at += block.size()) {
            const auto size =
                static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), bytes_ - at));
            REEVE_TRY(file_.read(at, block.data(), size));
            if (std::any_of(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(size),
                            [](char byte) { return byte != 0; })) {
                return false;
            }
        }
        return true;
    }

    Frame decode(const char* raw) const {
        return Frame{get_big_endian<std::uint32_t>(raw),
                     get_big_endian<std::uint32_t>(raw + 4) != 0,
                     get_big_endian<std::uint32_t>(raw + 8) == salts_[0] &&
                         get_big_endian<std::uint32_t>(raw + 12) == salts_[1]};
    }

    // Sets sound_ to the first frame that is not as written, committed_ to the end of the last
    // whole transaction before it.
    Status walk_sound_frames() {
        std::vector<char> raw(frame_size());
        for (sound_ = 0; sound_ < frames_; ++sound_) {
            REEVE_TRY(file_.read(offset_of(sound_), raw.data(), raw.size()));
            const Frame frame = decode(raw.data());
            add(sums_, raw.data(), 8);
            add(sums_, raw.data() + kFrameBytes, page_size_);
            const Sums stored{get_big_endian<std::uint32_t>(raw.data() + 16),
                              get_big_endian<std::uint32_t>(raw.data() + 20)};
            if (!frame.present || frame.page == 0 || stored != sums_) break;
            if (frame.commit) committed_ = sound_ + 1;
        }
        return {};
    }

    Result<WalReport> judge_the_rest() const {
        std::uint64_t lowest_page = 1;  // that frame i may hold if all this is one transaction
        std::uint64_t last_present = committed_;
        bool second_transaction = false;  // what we saw so far cannot be one transaction
        bool commit_seen = false;
        char raw[kFrameBytes];
        for (std::uint64_t i = committed_; i < frames_; ++i, ++lowest_page) {
            REEVE_TRY(file_.read(offset_of(i), raw, sizeof raw));
            const Frame frame = decode(raw);
            if (!frame.present) continue;
            last_present = i + 1;
            second_transaction |= commit_seen || frame.page < lowest_page;
            commit_seen |= frame.commit;
            lowest_page = frame.page;
        }
        if (second_transaction && sound_ < last_present && tail_ == WalTail::kFlushed) {
            return damaged(offset_of(sound_), "a frame there is damaged and later ones are not");
        }
        return WalReport{bytes_, committed_, last_present - committed_, offset_of(committed_)};
    }

    tl::unexpected<Error> damaged(std::uint64_t offset, const char* what) const {
        return fail(ErrorCode::kDataLoss,
                    path_ + ": damaged at offset " + std::to_string(offset) + ": " + what +
                        "; opening it would lose acknowledged work: keep a copy of the state "
                        "directory and restore it from a backup, or use a new --state-dir");
    }

    const std::string& path_;
    const File& file_;
    std::uint64_t bytes_;
    WalTail tail_;
    std::uint64_t page_size_ = 0;
    std::uint64_t frames_ = 0;
    std::uint64_t sound_ = 0;
    std::uint64_t committed_ = 0;
    std::uint32_t salts_[2] = {};
    Sums sums_;
    bool big_endian_ = false;
};

}  // namespace

Result<WalReport> check_wal(const std::string& wal_path, WalTail tail) {
    const int fd = open(wal_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) return WalReport{};
    if (fd < 0) return fail_errno("open " + wal_path, errno);
    const File file(fd);
    REEVE_TRY_ASSIGN(const std::uint64_t bytes, file.size());
    return Walk(wal_path, file, bytes, tail).run();
}

}  // namespace reeve::plm
