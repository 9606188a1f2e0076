// completion: the commands and their options, as a script for bash, zsh or fish.
#include "cli/commands.h"

namespace reeve::cli {

namespace {

struct Entry {
    std::string path;   // "node drain"
    std::string words;  // what may follow
};

void collect(const CLI::App& app, const std::string& path, std::vector<Entry>& out) {
    std::string words;
    for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
        words += sub->get_name() + " ";
    }
    for (const auto* option : app.get_options()) {
        for (const auto& name : option->get_lnames()) words += "--" + name + " ";
    }
    out.push_back({path, words});
    for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
        collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out);
    }
}

std::string bash_script(const std::vector<Entry>& entries) {
    std::string out =
        "_reeve() {\n"
        "    local path= word words skip=\n"
        "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
        "        [ \"$skip\" ] && { skip=; continue; }\n"
        "        case $word in\n"
        "            --state-dir) skip=1 ;;\n"
        "            -*) ;;\n"
        "            *) path=\"${path:+$path }$word\" ;;\n"
        "        esac\n"
        "    done\n"
        "    case $path in\n";
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        const bool root = entry->path.empty();
        out += root ? "        '') words='"
                    : "        '" + entry->path + "'|'" + entry->path + " '*) words='";
        out += entry->words + "' ;;\n";
    }
    return out +
           "    esac\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
           "    [ ${#COMPREPLY[@]} -gt 0 ] || "
           "COMPREPLY=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
           "}\n"
           "complete -F _reeve reeve\n";
}

std::string fish_script(const CLI::App& root, const std::vector<Entry>& entries) {
    std::string out = "complete -c reeve -f\n";
    for (const auto* sub : root.get_subcommands([](const CLI::App*) { return true; })) {
        out += "complete -c reeve -n __fish_use_subcommand -a " + sub->get_name() + "\n";
    }
    for (const auto& entry : entries) {
        if (entry.path.empty() || entry.path.find(' ') != std::string::npos) continue;
        out += "complete -c reeve -n '__fish_seen_subcommand_from " + entry.path + "' -F -a '" +
               entry.words + "'\n";
    }
    return out;
}

}  // namespace

int print_completion(const CLI::App& root, const std::string& shell) {
    std::vector<Entry> entries;
    collect(root, "", entries);
    if (shell == "fish") {
        write_out(fish_script(root, entries));
    } else {
        if (shell == "zsh") write_out("autoload -U +X bashcompinit && bashcompinit\n");
        write_out(bash_script(entries));
    }
    return finish(kExitOk);
}

}  // namespace reeve::cli
