#include "cli/help_format.h"

#include <algorithm>

#include "cli/text.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kIndent = 2;
constexpr std::size_t kColumn = 30;  // where the words begin
constexpr std::size_t kWidthMax = 100;

// "UINT:INT in [0 - 64]" is a number, "TEXT:{sync,async}" one of two words, "FILE:FILE" a file.
std::string value_name(const CLI::Option& option) {
    if (option.get_type_size() == 0) return "";
    auto type = option.get_type_name();
    const auto choice = type.find(":{");
    if (choice != std::string::npos) {
        auto words = type.substr(choice + 2, type.find('}', choice) - choice - 2);
        std::replace(words.begin(), words.end(), ',', '|');
        return words;
    }
    // Behind a colon stands what is checked; one behind a bracket is the value's own: "NAME[:N]".
    auto colon = type.find(':');
    while (colon != std::string::npos && colon > 0 && type[colon - 1] == '[') {
        colon = type.find(':', colon + 1);
    }
    type = type.substr(0, colon);
    if (type == "UINT" || type == "INT" || type == "FLOAT") return "N";
    return type;
}

std::string name_of(const CLI::Option& option, bool positional) {
    if (positional) {
        const auto name = option.get_single_name();
        const bool many = option.get_expected_max() > 1;
        const auto shown = name + (many ? "..." : "");
        return option.get_required() ? shown : "[" + shown + "]";
    }
    // "-n,--count", and not the "{false}" a flag may carry.
    auto name = option.get_name(false, true);
    if (const auto brace = name.find('{'); brace != std::string::npos) name.resize(brace);
    if (const auto comma = name.find(','); comma != std::string::npos) name.insert(comma + 1, " ");
    const auto value = value_name(option);
    return value.empty() ? name : name + " " + value;
}

// The words in a column of their own, wrapped.
std::string entry(const std::string& name, const std::string& words) {
    const auto width = std::clamp<std::size_t>(terminal_columns(), 60, kWidthMax);
    std::string out(kIndent, ' ');
    out += name;
    std::size_t at = out.size();
    const auto next_line = [&] {
        out += "\n" + std::string(kColumn, ' ');
        at = kColumn;
    };
    if (at + 1 > kColumn) {
        next_line();
    } else {
        out.append(kColumn - at, ' ');
        at = kColumn;
    }
    bool first = true;
    for (std::size_t begin = 0; begin < words.size();) {
        const auto end = std::min(words.find(' ', begin), words.size());
        const auto word = words.substr(begin, end - begin);
        begin = end + 1;
        if (!first && at + 1 + word.size() > width) {
            next_line();
            first = true;
        }
        if (!first) out += ' ', ++at;
        out += word;
        at += word.size();
        first = false;
    }
    return out + "\n";
}

}  // namespace

std::string HelpFormat::make_option(const CLI::Option* option, bool positional) const {
    return entry(name_of(*option, positional), option->get_description());
}

std::string HelpFormat::make_subcommand(const CLI::App* sub) const {
    return entry(sub->get_name(), sub->get_description());
}

}  // namespace reeve::cli
