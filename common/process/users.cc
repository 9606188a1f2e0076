#include "common/process/users.h"

#include <charconv>
#include <vector>

#include <grp.h>
#include <pwd.h>

namespace reeve {
namespace {

constexpr std::size_t kEntryBytes = 65'536;  // a group's line holds all its members

// (uid_t)-1 means "nobody in particular" to the kernel.
std::optional<std::uint32_t> as_number(const std::string& name) {
    std::uint32_t value = 0;
    const char* end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data(), end, value);
    if (error != std::errc{} || at != end || value == 0xFFFF'FFFFU) return std::nullopt;
    return value;
}

}  // namespace

std::string user_name(std::uint32_t uid) {
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> room(kEntryBytes);
    ::getpwuid_r(uid, &entry, room.data(), room.size(), &found);
    return found != nullptr ? found->pw_name : std::to_string(uid);
}

std::optional<std::uint32_t> user_id(const std::string& name) {
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> room(kEntryBytes);
    ::getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
    return found != nullptr ? found->pw_uid : as_number(name);
}

std::optional<std::uint32_t> group_id(const std::string& name) {
    group entry{};
    group* found = nullptr;
    std::vector<char> room(kEntryBytes);
    ::getgrnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
    return found != nullptr ? found->gr_gid : as_number(name);
}

}  // namespace reeve
