// A shared object for LD_PRELOAD: keeps in $POWER_SHADOW what a power cut would leave of
// $POWER_STATE.
//
// A file is in the shadow as it was at its last fsync, fdatasync or syncfs; a rename counts once
// its directory, or the renamed file, was flushed; what was never flushed is not there. So the
// shadow at the moment everything is killed is what the disk may hold when the machine comes back,
// at worst. With $POWER_LIE=TEXT, flushes of files whose path holds TEXT are promised and not kept:
// the control that shows the test would notice. Directory entries of flushed new files count as
// flushed (ext4, xfs), unlinks at once. Built as lib/power_cut.so.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

template <typename Function>
Function* real(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string setting(const char* name) {
    const char* text = getenv(name);
    return text == nullptr ? "" : text;
}

struct Shadow {
    std::mutex mutex;
    const std::string state = setting("POWER_STATE");
    const std::string copy = setting("POWER_SHADOW");
    const std::string lie = setting("POWER_LIE");
    std::vector<std::pair<std::string, std::string>> renames;  // not yet flushed

    // Where a path of the state directory lies in the shadow; empty for all others.
    std::string place(const std::string& path) const {
        if (state.empty() || !path.starts_with(state)) return "";
        if (path.size() > state.size() && path[state.size()] != '/') return "";
        return copy + path.substr(state.size());
    }

    void make_parents(const std::string& path) const {
        for (auto at = copy.size(); (at = path.find('/', at)) != path.npos; ++at) {
            mkdir(path.substr(0, at).c_str(), 0700);
        }
    }

    void keep_file(const std::string& path) const {
        const auto to = place(path);
        if (to.empty() || (!lie.empty() && path.find(lie) != path.npos)) return;
        const int in = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (in < 0) return;  // unlinked meanwhile
        struct stat info {};
        fstat(in, &info);
        make_parents(to);
        const auto fresh = to + ".fresh" + std::to_string(gettid());
        const int out =
            open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, info.st_mode & 0777);
        while (out >= 0 && sendfile(out, in, nullptr, 1 << 30) > 0) {
        }
        close(in);
        if (out >= 0) close(out);
        real<int(const char*, const char*)>("rename")(fresh.c_str(), to.c_str());
    }

    void keep_tree(const std::string& directory) const {
        DIR* entries = opendir(directory.c_str());
        if (entries == nullptr) return;
        while (const dirent* entry = readdir(entries)) {
            const std::string name = entry->d_name;
            if (name == "." || name == "..") continue;
            if (entry->d_type == DT_DIR) keep_tree(directory + "/" + name);
            if (entry->d_type == DT_REG) keep_file(directory + "/" + name);
        }
        closedir(entries);
    }

    void settle_renames() {
        for (const auto& [from, to] : renames) {
            make_parents(place(to));
            real<int(const char*, const char*)>("rename")(place(from).c_str(), place(to).c_str());
        }
        renames.clear();
    }

    void flushed(int fd, bool all) {
        char path[4096];
        const auto link = "/proc/self/fd/" + std::to_string(fd);
        const auto size = readlink(link.c_str(), path, sizeof path - 1);
        if (size <= 0) return;
        const std::string name(path, static_cast<std::size_t>(size));
        if (place(name).empty()) return;
        const std::lock_guard lock(mutex);
        struct stat info {};
        const bool directory = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
        bool renamed = directory;
        for (const auto& entry : renames) renamed = renamed || entry.second == name;
        if (renamed) settle_renames();
        if (all) {
            keep_tree(state);
        } else if (!directory) {
            keep_file(name);
        }
    }
};

Shadow& shadow() {
    static Shadow one;
    return one;
}

int flush(const char* name, int fd, bool all) {
    const int result = real<int(int)>(name)(fd);
    if (result == 0) shadow().flushed(fd, all);
    return result;
}

}  // namespace

extern "C" int fsync(int fd) {
    return flush("fsync", fd, false);
}
extern "C" int fdatasync(int fd) {
    return flush("fdatasync", fd, false);
}
extern "C" int syncfs(int fd) noexcept {
    return flush("syncfs", fd, true);
}
extern "C" int rename(const char* from, const char* to) noexcept {
    const int result = real<int(const char*, const char*)>("rename")(from, to);
    if (result == 0 && !shadow().place(to).empty()) {
        const std::lock_guard lock(shadow().mutex);
        shadow().renames.emplace_back(from, to);
    }
    return result;
}
// A second name of a flushed file; counts with its directory's flush too, as a rename that keeps
// the first name.
extern "C" int link(const char* from, const char* to) noexcept {
    const int result = real<int(const char*, const char*)>("link")(from, to);
    if (result == 0 && !shadow().place(to).empty()) {
        const std::lock_guard lock(shadow().mutex);
        shadow().renames.emplace_back(from, to);
    }
    return result;
}
extern "C" int unlink(const char* path) noexcept {
    const int result = real<int(const char*)>("unlink")(path);
    const auto copy = shadow().place(path);
    if (result != 0 || copy.empty()) return result;
    const std::lock_guard lock(shadow().mutex);
    bool linked = false;  // its content goes on under the other name
    for (const auto& entry : shadow().renames) linked = linked || entry.first == path;
    if (!linked) real<int(const char*)>("unlink")(copy.c_str());
    return result;
}
