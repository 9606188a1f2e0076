// submit and run: from words, scripts and files to queued jobs.
//
// prepare() is local and complete: whatever can be refused without the PLM is refused there, before
// anything is sent. A submission is one request, accepted whole or not at all, and carries a key of
// its own, so that it may be repeated when the PLM died before its answer arrived.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/client/calls.h"
#include "cli/client/client.h"
#include "cli/context.h"
#include "cli/job_draft.h"

namespace reeve::cli {

struct SubmitOptions {
    std::vector<std::pair<const OptionRule*, std::string>> values;  // in the order given
    std::vector<std::string> environment;
    std::vector<std::string> parameters;  // --param NAME=a,b,c
    std::string each_line;                // FILE or -
    std::vector<std::string> words;       // what stands before --
    std::vector<std::string> command;     // what stands after --
    bool separated = false;               // there was a --
    bool check = true;
    bool forward_stdin = false;  // run: what is piped in is the task's input
    bool dry_run = false;
    bool wait = false;
    bool progress = false;
    std::string timeout;  // of --wait
};

// Directives of a script's leading comments: `#REEVE --cpus 2`, as words.
Result<std::vector<std::string>> script_directives(const std::string& text);

// The drafts of a command line, complete and checked, and the warnings that go with them.
Result<std::vector<JobDraft>> prepare(const SubmitOptions& options,
                                      std::vector<std::string>& warnings);

// What a path's placeholders are good for: unknown ones, an array whose elements share a file.
std::vector<std::string> placeholder_warnings(const v1::JobSpec& spec);

// An option that names what it counts names each thing once, on one line or in one script.
Status check_named_once(const std::vector<std::pair<const OptionRule*, std::string>>& values);

// Sends them as one request. Errors as the PLM's.
Result<v1::SubmitReply> send(Client& client, std::vector<JobDraft>& drafts, bool dry_run);

// Where `words` names a script with #REEVE lines, the words of these lines (before the line's own).
Result<std::vector<std::string>> directives_for(const SubmitOptions& options);

int submit_command(const Context& context, const SubmitOptions& options);
int run_command(const Context& context, const SubmitOptions& options);

}  // namespace reeve::cli
