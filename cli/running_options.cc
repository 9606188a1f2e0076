#include "cli/running_options.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "common/process/small_file.h"

namespace reeve::cli {

namespace {

constexpr std::string_view kNextRole = "--";  // before the words of workers, then the PLM's

using Flags = std::map<std::string, std::vector<std::string>>;

std::string path_of(const Cell& cell) {
    return cell.dir + "/run/supervisor.options";
}

std::vector<std::string> words_of(const SuperviseOptions& options) {
    std::vector<std::string> words{"--workers", std::to_string(options.workers)};
    for (const auto* some : {&options.worker_arguments, &options.plm_arguments}) {
        words.emplace_back(kNextRole);
        words.insert(words.end(), some->begin(), some->end());
    }
    return words;
}

std::optional<std::vector<std::string>> running_words(const Cell& cell) {
    const auto text = read_whole(path_of(cell));
    if (!text) return std::nullopt;
    std::vector<std::string> words;
    for (std::size_t at = 0; at < text->size();) {
        words.emplace_back(text->c_str() + at);
        at += words.back().size() + 1;
    }
    return words;
}

// A word that is no flag is a value of the flag before it.
Flags flags_of(const std::vector<std::string>& words) {
    Flags flags;
    std::vector<std::string>* values = nullptr;
    for (const auto& word : words) {
        if (word == kNextRole) continue;
        if (word.starts_with("--")) {
            values = &flags[word];
        } else if (values != nullptr) {
            values->push_back(word);
        }
    }
    for (auto& [flag, all] : flags) std::sort(all.begin(), all.end());
    return flags;
}

// As without the flag.
bool is_default(const std::string& flag, const std::vector<std::string>& values) {
    const char* value = flag == "--durability" ? "sync" : flag == "--lease" ? "3000ms" : "";
    return values == std::vector<std::string>{value};
}

}  // namespace

void write_running_options(const Cell& cell, const SuperviseOptions& options) {
    const int fd = open(path_of(cell).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return;
    std::string text;
    for (const auto& word : words_of(options)) text += word + '\0';
    [[maybe_unused]] const auto written = write(fd, text.data(), text.size());
    close(fd);
}

std::vector<std::string> other_options(const Cell& cell, const SuperviseOptions& asked,
                                       const std::vector<std::string>& by_default) {
    const auto words = running_words(cell);
    if (!words) return {};
    const auto running = flags_of(*words);
    std::vector<std::string> other;
    for (const auto& [flag, values] : flags_of(words_of(asked))) {
        if (std::find(by_default.begin(), by_default.end(), flag) != by_default.end()) continue;
        const auto found = running.find(flag);
        const bool same =
            found == running.end() ? is_default(flag, values) : found->second == values;
        if (!same) other.push_back(flag);
    }
    return other;
}

void take_running_options(const Cell& cell, const std::vector<std::string>& by_default,
                          SuperviseOptions& options) {
    const auto words = running_words(cell);
    if (!words) return;
    const auto workers = std::find(words->begin(), words->end(), kNextRole);
    if (workers == words->end()) return;
    const auto plm = std::find(workers + 1, words->end(), kNextRole);
    if (plm == words->end()) return;
    std::uint32_t number = 0;
    const auto& text = words->size() > 1 ? (*words)[1] : words->front();
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool unasked =
        std::find(by_default.begin(), by_default.end(), "--workers") != by_default.end();
    if (unasked && parsed.ec == std::errc{}) options.workers = number;
    options.worker_arguments.assign(workers + 1, plm);
    options.plm_arguments.assign(plm + 1, words->end());
}

}  // namespace reeve::cli
