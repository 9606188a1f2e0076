#include "common/process/task_space.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/process/proc_info.h"

namespace reeve {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kOwnMode = 0700;
constexpr mode_t kPassMode = 0711;  // others may walk through to what is theirs

std::string said_directory(const Cell& cell) {
    return cell.dir + "/tmp/said";
}

Status make_directory(const std::string& path, mode_t mode) {
    if (::mkdir(path.c_str(), mode) == 0 || errno == EEXIST) {
        struct stat about {};
        const bool ours = ::lstat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode) &&
                          about.st_uid == ::geteuid() && (about.st_mode & 022) == 0;
        if (ours && ((about.st_mode & 0777) == mode || ::chmod(path.c_str(), mode) == 0)) return {};
        return fail(ErrorCode::kPermissionDenied,
                    path + " is not a directory of ours alone; remove it");
    }
    return fail(ErrorCode::kPermissionDenied, "make " + path + ": " + std::strerror(errno));
}

// A task may have taken its own right to enter its directories away.
void open_directories(const std::string& path) {
    ::chmod(path.c_str(), kOwnMode);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path, error)) {
        if (entry.is_directory(error) && !entry.is_symlink(error)) {
            open_directories(entry.path().string());
        }
    }
}

bool is_continuation(char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

std::size_t sequence_length(unsigned char first) {
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first < 0xE0) return 2;
    if (first >= 0xE0 && first < 0xF0) return 3;
    return first >= 0xF0 && first < 0xF5 ? 4 : 0;
}

// Overlong forms and surrogates, which a first byte and continuation bytes alone do not exclude.
bool is_lawful(std::string_view sequence) {
    if (sequence.size() < 3) return true;
    const auto first = static_cast<unsigned char>(sequence[0]);
    const auto second = static_cast<unsigned char>(sequence[1]);
    if (first == 0xE0) return second >= 0xA0;
    if (first == 0xED) return second < 0xA0;
    if (first == 0xF0) return second >= 0x90;
    return first != 0xF4 || second < 0x90;
}

std::string clean_text(std::string_view text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const auto size = sequence_length(static_cast<unsigned char>(text[at]));
        if (size != 0 && at + size > text.size()) break;  // cut in the middle of a character
        bool fine = size != 0 && text[at] != '\0' && is_lawful(text.substr(at, size));
        for (std::size_t i = 1; fine && i < size; ++i) fine = is_continuation(text[at + i]);
        if (fine) {
            out.append(text.substr(at, size));
            at += size;
        } else {
            out += '?';
            ++at;
        }
    }
    const auto last = out.find_last_not_of(" \t\r\n");
    out.resize(last == std::string::npos ? 0 : last + 1);
    return out;
}

std::string read_up_to(int fd, std::size_t most) {
    std::string text(most, '\0');
    std::size_t done = 0;
    while (done < most) {
        const auto got = ::read(fd, text.data() + done, most - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += static_cast<std::size_t>(got);
    }
    text.resize(done);
    return text;
}

}  // namespace

std::string task_space_root(const Cell& cell, bool other_user) {
    return other_user ? "/tmp/reeve-" + cell.hash + "-tmp" : cell.dir + "/tmp";
}

std::string worker_space(const std::string& root, WorkerId worker) {
    return root + "/w" + std::to_string(worker.number) + "." + std::to_string(worker.incarnation);
}

std::string attempt_space(const std::string& space, TaskId task, std::uint32_t attempt) {
    return space + "/" + std::to_string(task.job) + "." + std::to_string(task.element) + "." +
           std::to_string(attempt);
}

std::string error_file(const std::string& attempt_space, bool other_user) {
    return attempt_space + (other_user ? "/.reeve-error" : ".err");
}

Status make_worker_space(const std::string& root, const std::string& space, bool other_user) {
    const mode_t mode = other_user ? kPassMode : kOwnMode;
    REEVE_TRY(make_directory(root, mode));
    return make_directory(space, mode);
}

bool remove_tree(const std::string& path) {
    std::error_code error;
    fs::remove_all(path, error);
    if (!error) return true;
    std::error_code second;
    if (fs::symlink_status(path, second).type() == fs::file_type::directory) open_directories(path);
    fs::remove_all(path, error);
    return !error;
}

void remove_worker_spaces(const Cell& cell, WorkerId worker) {
    for (const bool other_user : {false, true}) {
        const auto root = task_space_root(cell, other_user);
        (void)remove_tree(worker_space(root, worker));
        if (other_user) ::rmdir(root.c_str());  // the last worker's
    }
}

void remove_all_spaces(const Cell& cell) {
    for (const bool other_user : {false, true}) {
        (void)remove_tree(task_space_root(cell, other_user));
    }
}

void remove_stale_spaces(const Cell& cell) {
    for (const bool other_user : {false, true}) {
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(task_space_root(cell, other_user), error)) {
            const auto name = entry.path().filename().string();
            if (!name.starts_with("w")) continue;
            const auto mark = "REEVE_INSTANCE=" + cell.hash + "." + name.substr(1);
            if (pids_with_environment(mark).empty()) (void)remove_tree(entry.path().string());
        }
    }
}

Result<std::string> read_error_text(const std::string& path, std::uint32_t uid) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kPermissionDenied,
                    "open " + path + ": " + std::strerror(errno));
    }
    struct stat about {};
    const bool fine = ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == uid &&
                      about.st_nlink == 1;
    auto text = fine ? read_up_to(fd, kErrorTextMax) : std::string();
    ::close(fd);
    if (!fine) return fail(ErrorCode::kPermissionDenied, path + " is no plain file of the task");
    return clean_text(text);
}

Status leave_text(const Cell& cell, TaskId task, std::uint32_t attempt, const std::string& text) {
    REEVE_TRY(make_directory(cell.dir + "/tmp", kOwnMode));
    REEVE_TRY(make_directory(said_directory(cell), kOwnMode));
    const auto path = attempt_space(said_directory(cell), task, attempt);
    const int fd =
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail_errno("open " + path, errno);
    const auto wrote = ::write(fd, text.data(), text.size());
    const int error = wrote == static_cast<ssize_t>(text.size()) ? 0 : (wrote < 0 ? errno : ENOSPC);
    ::close(fd);
    if (error == 0) return {};
    ::unlink(path.c_str());
    return fail_errno("write " + path, error);
}

Result<std::string> take_text(const Cell& cell, TaskId task, std::uint32_t attempt) {
    const auto path = attempt_space(said_directory(cell), task, attempt);
    auto text = read_error_text(path, ::geteuid());
    if (text) ::unlink(path.c_str());
    return text;
}

}  // namespace reeve
