#include "cli/selectors.h"

#include <algorithm>
#include <map>

#include <fnmatch.h>

namespace reeve::cli {

namespace {

tl::unexpected<Error> bad(std::string_view text, const std::string& cure) {
    return fail(ErrorCode::kInvalidArgument,
                "\"" + std::string(text.substr(0, 80)) + "\" does not name a job; " + cure);
}

constexpr const char* kForms = "write 12, 12.3, 1-5, @, @~1, all or name:GLOB";

Result<Range> parse_range(std::string_view text, std::uint64_t most) {
    const auto dash = text.find('-');
    Range range;
    REEVE_TRY_ASSIGN(range.first, parse_count(text.substr(0, dash), most));
    range.last = range.first;
    if (dash != std::string_view::npos) {
        REEVE_TRY_ASSIGN(range.last, parse_count(text.substr(dash + 1), most));
    }
    return range;
}

}  // namespace

Result<Selector> parse_selector(std::string_view text) {
    Selector selector;
    selector.text = text;
    if (text == "all") {
        selector.kind = Selector::Kind::kAll;
        return selector;
    }
    if (text.substr(0, 5) == "name:") {
        selector.kind = Selector::Kind::kName;
        selector.glob = text.substr(5);
        if (selector.glob.empty())
            return bad(text, "write a pattern after name:, like name:train*");
        return selector;
    }
    if (text == "@" || text == "last") {
        selector.kind = Selector::Kind::kLast;
        return selector;
    }
    if (text.substr(0, 2) == "@~") {
        selector.kind = Selector::Kind::kLast;
        const auto back = parse_count(text.substr(2), kJobIdMax);
        if (!back) return bad(text, "write @~1 for the job before the last");
        selector.back = *back;
        return selector;
    }
    const auto dot = text.find('.');
    const auto jobs = parse_range(text.substr(0, dot), kJobIdMax);
    if (!jobs) return bad(text, kForms);
    selector.jobs = *jobs;
    if (jobs->first == 0) return bad(text, "job ids start at 1");
    if (jobs->last < jobs->first) return bad(text, "write the smaller number first");
    if (dot != std::string_view::npos) {
        if (jobs->first != jobs->last) return bad(text, "write elements of one job, like 12.3-7");
        const auto elements = parse_range(text.substr(dot + 1), kElementMax);
        if (!elements) return bad(text, kForms);
        if (elements->last < elements->first) return bad(text, "write the smaller number first");
        selector.elements.push_back(*elements);
    }
    return selector;
}

Result<std::vector<Selector>> parse_selectors(const std::vector<std::string>& words) {
    std::vector<Selector> out;
    for (const auto& word : words) {
        std::string_view rest = word;
        // A glob may hold a comma; ids may not.
        while (true) {
            const auto comma =
                rest.substr(0, 5) == "name:" ? std::string_view::npos : rest.find(',');
            REEVE_TRY_ASSIGN(auto selector, parse_selector(rest.substr(0, comma)));
            out.push_back(std::move(selector));
            if (comma == std::string_view::npos) break;
            rest.remove_prefix(comma + 1);
        }
    }
    return out;
}

bool needs_catalogue(const std::vector<Selector>& selectors) {
    return std::any_of(selectors.begin(), selectors.end(), [](const Selector& selector) {
        return selector.kind != Selector::Kind::kJobs || selector.jobs.size() > 1;
    });
}

namespace {

tl::unexpected<Error> nothing(const Selector& selector, const std::string& why) {
    return fail(ErrorCode::kNotFound,
                selector.text + " names no job: " + why + "; see which exist with: reeve ls --all");
}

std::vector<Range> named(const std::string& glob, const Catalogue& catalogue) {
    std::vector<Range> live;
    std::vector<Range> all;
    for (const auto& known : catalogue.jobs) {
        if (fnmatch(glob.c_str(), known.name.c_str(), 0) != 0) continue;
        all.push_back({known.job, known.job});
        if (!known.ended) live.push_back(all.back());
    }
    return catalogue.ended == Ended::kOtherwise && !live.empty() ? live : all;
}

// The jobs a selector means; `elements` apply to each of them (there is one when there are any).
Result<std::vector<Range>> jobs_of(const Selector& selector, const Catalogue& catalogue) {
    std::vector<Range> out;
    switch (selector.kind) {
        case Selector::Kind::kLast:
            if (catalogue.last_job <= selector.back) {
                return nothing(selector, "so many were never submitted");
            }
            out.push_back({catalogue.last_job - selector.back, catalogue.last_job - selector.back});
            break;
        case Selector::Kind::kAll:
            for (const auto& known : catalogue.jobs) {
                if (known.ended && catalogue.ended != Ended::kAlways) continue;
                out.push_back({known.job, known.job});
            }
            break;
        case Selector::Kind::kName:
            out = named(selector.glob, catalogue);
            if (out.empty()) return nothing(selector, "no job has such a name");
            break;
        case Selector::Kind::kJobs: {
            Range range = selector.jobs;
            if (range.size() > 1 && catalogue.last_job != 0) {
                if (range.first > catalogue.last_job) {
                    return nothing(selector,
                                   "the last one is " + std::to_string(catalogue.last_job));
                }
                range.last = std::min(range.last, catalogue.last_job);
            }
            if (range.size() > kSelectedMax) {
                return fail(
                    ErrorCode::kInvalidArgument,
                    selector.text + " names more than 10000000 jobs; write a smaller range");
            }
            out.push_back(range);
            break;
        }
    }
    return out;
}

std::vector<Range> merged(std::vector<Range> ranges) {
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.first < b.first; });
    std::vector<Range> out;
    for (const auto& range : ranges) {
        if (!out.empty() && range.first <= out.back().last + 1) {
            out.back().last = std::max(out.back().last, range.last);
        } else {
            out.push_back(range);
        }
    }
    return out;
}

}  // namespace

Result<std::vector<Selected>> resolve(const std::vector<Selector>& selectors,
                                      const Catalogue& catalogue) {
    struct Choice {
        bool whole = false;
        std::vector<Range> elements;
    };
    std::map<std::uint64_t, Choice> chosen;
    for (const auto& selector : selectors) {
        REEVE_TRY_ASSIGN(const auto ranges, jobs_of(selector, catalogue));
        for (const auto& range : ranges) {
            for (std::uint64_t job = range.first; job <= range.last; ++job) {
                auto& choice = chosen[job];
                choice.whole |= selector.elements.empty();
                choice.elements.insert(choice.elements.end(), selector.elements.begin(),
                                       selector.elements.end());
            }
        }
    }
    std::vector<Selected> out;
    out.reserve(chosen.size());
    for (auto& [job, choice] : chosen) {
        out.push_back({job, choice.whole ? std::vector<Range>{} : merged(choice.elements)});
    }
    return out;
}

bool contains(const Selected& selected, std::uint64_t element) {
    if (selected.elements.empty()) return true;
    return std::any_of(
        selected.elements.begin(), selected.elements.end(),
        [element](const Range& range) { return element >= range.first && element <= range.last; });
}

}  // namespace reeve::cli
