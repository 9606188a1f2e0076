#include "common/log/log.h"

#include <cstdlib>
#include <memory>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace reeve::log {
namespace {

std::shared_ptr<spdlog::logger>& logger() {
    static std::shared_ptr<spdlog::logger> instance = [] {
        auto made = std::make_shared<spdlog::logger>(
            "reeve", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_pattern("%v");
        made->set_level(spdlog::level::info);
        return made;
    }();
    return instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
    switch (level) {
        case Level::kDebug:
            return spdlog::level::debug;
        case Level::kInfo:
            return spdlog::level::info;
        case Level::kWarn:
            return spdlog::level::warn;
        case Level::kError:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

// Quotes a value that needs it and escapes what could forge a line or drive a terminal.
void append_value(std::string& line, std::string_view text) {
    const bool plain = !text.empty() && text.find_first_of(" \"=\\") == std::string_view::npos;
    bool printable = true;
    for (const char c : text)
        printable = printable && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    if (plain && printable) {
        line += text;
        return;
    }
    line += '"';
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            line += '\\';
            line += c;
        } else if (byte < 0x20 || byte == 0x7f) {
            line += fmt::format("\\x{:02x}", byte);
        } else {
            line += c;
        }
    }
    line += '"';
}

}  // namespace

void init(std::string_view role) {
    logger()->set_pattern(fmt::format("t=%Y-%m-%dT%H:%M:%S.%fZ level=%l role={} pid=%P %v", role),
                          spdlog::pattern_time_type::utc);
    const char* wanted = std::getenv("REEVE_LOG");
    if (wanted != nullptr) logger()->set_level(spdlog::level::from_str(wanted));
    logger()->flush_on(spdlog::level::debug);
}

void write(Level level, std::string_view message, Fields fields) {
    const auto spdlog_level = to_spdlog(level);
    if (!logger()->should_log(spdlog_level)) return;
    std::string line = "msg=";
    append_value(line, message);
    for (const auto& field : fields) {
        line += ' ';
        line += field.name;
        line += '=';
        append_value(line, field.value.text());
    }
    logger()->log(spdlog_level, line);
}

}  // namespace reeve::log
