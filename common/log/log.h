// One logfmt line per event on stderr, written in one call through spdlog.
//
//   log::info("task requeued", {{"task", "17"}, {"worker", 3}, {"attempt", 9}});
//   t=2026-11-21T21:53:42.123456Z level=info role=register pid=812 msg="task requeued" task=17 ...
//
// The message is a constant string; values live in fields. error: an operator must act. warn:
// recovered by itself. info: state changes of tasks and workers. debug: for us (REEVE_LOG=debug).
// Thread-safe. Never called inside a CAS loop.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace reeve::log {

class Value {
public:
    Value(std::string_view text) : text_(text) {}             // NOLINT(google-explicit-constructor)
    Value(const char* text) : text_(text) {}                  // NOLINT
    Value(const std::string& text) : text_(text) {}           // NOLINT
    Value(bool value) : text_(value ? "true" : "false") {}    // NOLINT
    template <typename T>
        requires std::integral<T> || std::floating_point<T>
    Value(T value) : text_(std::to_string(value)) {}          // NOLINT
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

struct Field {
    std::string_view name;
    Value value;
};
using Fields = std::initializer_list<Field>;

enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError };

// Names the role in every line of this process; call once at start. Reads REEVE_LOG for the level.
void init(std::string_view role);

void write(Level level, std::string_view message, Fields fields);

inline void debug(std::string_view message, Fields fields = {}) {
    write(Level::kDebug, message, fields);
}
inline void info(std::string_view message, Fields fields = {}) {
    write(Level::kInfo, message, fields);
}
inline void warn(std::string_view message, Fields fields = {}) {
    write(Level::kWarn, message, fields);
}
inline void error(std::string_view message, Fields fields = {}) {
    write(Level::kError, message, fields);
}

}  // namespace reeve::log
