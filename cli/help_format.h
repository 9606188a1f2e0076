// How --help looks: CLI11's pages without its inner words ("UINT:INT in [0 - 64]", "Excludes:"),
// wrapped at the terminal's width.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace reeve::cli {

class HelpFormat final : public CLI::Formatter {
public:
    std::string make_option(const CLI::Option* option, bool positional) const override;
    std::string make_subcommand(const CLI::App* sub) const override;
};

}  // namespace reeve::cli
