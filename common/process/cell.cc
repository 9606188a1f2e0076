#include "common/process/cell.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

namespace reeve {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSocketPathMax = 107;  // sun_path without its NUL
constexpr std::size_t kSocketNameMax = 40;  // longest name put into runtime_dir: "launcher-...sock"
constexpr std::size_t kSmallFileMax = 4096;

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

bool is_directory_of_ours(const std::string& path) {
    struct stat info {};
    return ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::geteuid();
}

Result<std::string> choose_directory(const std::string& option) {
    std::string dir = option;
    if (dir.empty()) {
        dir = environment("REEVE_STATE_DIR");
        if (dir.empty() && std::getenv("REEVE_STATE_DIR") != nullptr) {
            return fail(ErrorCode::kInvalidArgument,
                        "REEVE_STATE_DIR is empty; set it to a directory, or unset it");
        }
    }
    if (dir.empty()) {
        const auto state_home = environment("XDG_STATE_HOME");
        const auto home = environment("HOME");
        if (!state_home.empty() && state_home.front() == '/') {
            dir = state_home + "/reeve";
        } else if (!home.empty()) {
            dir = home + "/.local/state/reeve";
        } else {
            return fail(ErrorCode::kInvalidArgument,
                        "no state directory: HOME is not set; give --state-dir DIR or set "
                        "REEVE_STATE_DIR");
        }
    }
    if (dir.find('\n') != std::string::npos) {
        return fail(ErrorCode::kInvalidArgument, "state directory: a newline in its name");
    }
    // Two spellings of one directory are one cell: symlinks of the existing part are resolved.
    std::error_code error;
    auto path = fs::weakly_canonical(fs::absolute(dir, error), error);
    if (error) {
        return fail(ErrorCode::kInvalidArgument, "state directory " + dir + ": " + error.message());
    }
    if (fs::exists(path, error) && !fs::is_directory(path, error)) {
        return fail(ErrorCode::kInvalidArgument,
                    "the state directory " + dir + " is no directory; choose another --state-dir");
    }
    dir = path.lexically_normal().string();
    while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
    return dir;
}

std::string hash_of(const std::string& dir, uid_t uid) {
    const auto value = XXH3_64bits_withSeed(dir.data(), dir.size(), uid);
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return std::string(text, 12);
}

Result<std::string> read_small_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return fail_errno("open " + path, errno);
    char buffer[kSmallFileMax];
    const auto got = ::read(fd, buffer, sizeof buffer);
    const int error = errno;
    ::close(fd);
    if (got < 0) return fail_errno("read " + path, error);
    return std::string(buffer, static_cast<std::size_t>(got));
}

// Writes beside and renames, flushed, so that a reader finds the old or the new content only.
Status replace_small_file(const std::string& path, const std::string& content) {
    const auto temporary = path + ".new" + std::to_string(::getpid());
    const int fd =
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail_errno("open " + temporary, errno);
    const auto wrote = ::write(fd, content.data(), content.size());
    const int error = wrote < 0 ? errno : 0;
    const bool flushed = ::fsync(fd) == 0;
    ::close(fd);
    if (wrote != static_cast<ssize_t>(content.size()) || !flushed) {
        return fail_errno("write " + temporary, error != 0 ? error : EIO);
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno("rename " + path, errno);
    const auto parent = fs::path(path).parent_path().string();
    const int dir_fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0) {
        ::fsync(dir_fd);
        ::close(dir_fd);
    }
    return {};
}

// The runtime directory a living cell noted in its state directory: a client from cron, without
// XDG_RUNTIME_DIR, then still finds the socket of a cell started from a desktop.
std::optional<std::string> noted_runtime_dir(const std::string& note) {
    auto text = read_small_file(note);
    if (!text || text->empty() || text->back() != '\n') return std::nullopt;
    text->pop_back();
    if (text->empty() || text->front() != '/' || text->size() + kSocketNameMax > kSocketPathMax ||
        !is_directory_of_ours(*text)) {
        return std::nullopt;
    }
    return *text;
}

std::string choose_runtime_dir(const Cell& cell) {
    const auto noted = noted_runtime_dir(cell.dir + "/runtime");
    if (noted) return *noted;
    const auto base = environment("XDG_RUNTIME_DIR");
    if (!base.empty() && base.front() == '/' && is_directory_of_ours(base)) {
        auto dir = base + "/reeve-" + cell.hash;
        if (dir.size() + kSocketNameMax <= kSocketPathMax) return dir;
    }
    return "/tmp/reeve-" + std::to_string(::geteuid()) + "/" + cell.hash;
}

tl::unexpected<Error> cannot_create(const std::string& path, const std::string& why) {
    return fail(ErrorCode::kFailedPrecondition,
                "create directory " + path + ": " + why +
                    "; choose another place with --state-dir, or make room for it there");
}

// Makes `path` 0700 if it is missing; refuses one that is not ours or that others may write to.
Status make_private_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return cannot_create(path, std::strerror(errno));
    }
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return fail_errno("look at " + path, errno);
    if (!S_ISDIR(info.st_mode)) {
        return fail(ErrorCode::kFailedPrecondition,
                    path + ": not a directory; move it away or choose another --state-dir");
    }
    if (info.st_uid != ::geteuid()) {
        return fail(ErrorCode::kPermissionDenied,
                    path + ": belongs to uid " + std::to_string(info.st_uid) + ", not to us (" +
                        std::to_string(::geteuid()) + "); choose another --state-dir");
    }
    if ((info.st_mode & 022) != 0) {
        return fail(ErrorCode::kPermissionDenied,
                    path + ": others may write to it; run: chmod go-w '" + path + "'");
    }
    return {};
}

// Parents of the state directory, made like mkdir -p makes them.
Status make_parents(const std::string& path) {
    std::error_code error;
    const auto parent = fs::path(path).parent_path();
    fs::create_directories(parent, error);
    if (error && !fs::is_directory(parent)) {
        return cannot_create(parent.string(), error.message());
    }
    return {};
}

}  // namespace

Result<Cell> find_cell(const std::string& state_dir_option) {
    Cell cell;
    REEVE_TRY_ASSIGN(cell.dir, choose_directory(state_dir_option));
    cell.hash = hash_of(cell.dir, ::geteuid());
    cell.runtime_dir = choose_runtime_dir(cell);
    cell.socket = cell.runtime_dir + "/plm.sock";
    cell.ledger = cell.dir + "/ledger.db";
    cell.history = cell.dir + "/history.db";
    cell.audit = cell.dir + "/audit";
    cell.segment_file = cell.dir + "/segment";
    cell.policy = cell.dir + "/policy.json";
    cell.output = cell.dir + "/out";
    cell.results = cell.dir + "/results";
    cell.logs = cell.dir + "/logs";
    cell.run = cell.dir + "/run";
    return cell;
}

Status create_cell_directories(const Cell& cell) {
    REEVE_TRY(make_parents(cell.dir));
    for (const auto* path :
         {&cell.dir, &cell.audit, &cell.output, &cell.results, &cell.logs, &cell.run}) {
        REEVE_TRY(make_private_directory(*path));
    }
    const auto parent = fs::path(cell.runtime_dir).parent_path().string();
    if (parent == "/tmp/reeve-" + std::to_string(::geteuid())) {
        REEVE_TRY(make_private_directory(parent));
    }
    REEVE_TRY(make_private_directory(cell.runtime_dir));
    const auto note = cell.dir + "/runtime";
    const auto noted = read_small_file(note);
    if (!noted || *noted != cell.runtime_dir + "\n") {
        REEVE_TRY(replace_small_file(note, cell.runtime_dir + "\n"));
    }
    return {};
}

std::string result_file(const Cell& cell, std::uint64_t job, std::uint64_t element,
                        std::uint32_t attempt) {
    return cell.results + "/" + std::to_string(job) + "." + std::to_string(element) + "." +
           std::to_string(attempt);
}

Result<std::string> read_segment_name(const Cell& cell) {
    auto text = read_small_file(cell.segment_file);
    if (!text) return fail(std::move(text).error());
    const auto end = text->find('\n');
    if (end == std::string::npos || end < 2 || text->front() != '/') {
        return fail(ErrorCode::kDataLoss,
                    cell.segment_file +
                        ": does not hold a segment's name; remove it and start "
                        "the PLM");
    }
    return text->substr(0, end);
}

Status write_segment_name(const Cell& cell, const std::string& name) {
    return replace_small_file(cell.segment_file, name + "\n");
}

}  // namespace reeve
