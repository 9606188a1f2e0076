// The trust policy: which logs are believed, and which witnesses must have cosigned (C2SP
// tlog-policy).
//
//   log <vkey> [<url>]         witness <name> <vkey> [<url>]
//   group <name> all|any|<k> <member>...           quorum <name>|none        (exactly one)
//
// Names are defined once, before they are used, and each is a member of at most one group; a key
// stands in the file once. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/audit/keys.h"
#include "common/audit/note.h"
#include "common/base/result.h"

namespace reeve::audit {

class Policy {
public:
    static constexpr std::size_t kNamesMax = 4096;

    // Error kInvalidArgument: the line and what is wrong with it.
    static Result<Policy> parse(std::string_view text);
    // One log and no witnesses.
    static Policy trust(VerifierKey log);

    std::span<const VerifierKey> logs() const { return logs_; }
    std::span<const VerifierKey> witnesses() const { return witnesses_; }
    bool quorum_met(std::span<const Cosignature> cosignatures) const;
    std::string quorum_text() const;  // for messages: "2 of workers (w0 w1 w2)"

private:
    // A name: a witness (members empty), or a group of `threshold` of its members.
    struct Name {
        std::string text;
        std::size_t witness = 0;
        std::size_t threshold = 0;
        std::vector<std::size_t> members;
        bool taken = false;  // is a member of a group already
    };
    friend class PolicyParser;
    bool holds(std::size_t name, const std::vector<bool>& cosigned) const;

    std::vector<VerifierKey> logs_;
    std::vector<VerifierKey> witnesses_;
    std::vector<Name> names_;
    static constexpr std::size_t kNone = ~std::size_t{0};
    std::size_t quorum_ = kNone;
};

}  // namespace reeve::audit
