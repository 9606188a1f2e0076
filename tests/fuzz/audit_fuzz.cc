// Every parser of the audit log, on hostile bytes: no crash, no hang, and what one of them accepts
// it writes back as it was read (one meaning, one spelling).
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/audit/entry.h"
#include "common/audit/log_view.h"
#include "common/audit/note.h"
#include "common/audit/policy.h"
#include "common/audit/proof_text.h"
#include "common/audit/text.h"
#include "common/audit/tiles.h"
#include "common/base/assert.h"
#include "common/merkle/compact_range.h"

using namespace reeve;
using namespace reeve::audit;

namespace {

const nlohmann::json& demo() {
    static const nlohmann::json vectors = [] {
        std::ifstream file(REEVE_TEST_DATA "/audit_vectors.json");
        return nlohmann::json::parse(file).at("demo");
    }();
    return vectors;
}

const Policy& demo_policy() {
    static const Policy policy =
        *Policy::parse("log " + demo()["log_vkey"].get<std::string>() + "\nwitness w " +
                       demo()["witness_vkey"].get<std::string>() + "\nquorum none\n");
    return policy;
}

void fuzz_small(std::string_view input) {
    if (const auto entry = decode(input)) REEVE_ASSERT(encode(*entry) == input);
    if (const auto key = parse_vkey(input)) REEVE_ASSERT(key->to_string() == input);
    if (const auto key = SigningKey::parse(input)) REEVE_ASSERT(key->to_string() == input);
    if (const auto bytes = decode_base64(input)) REEVE_ASSERT(encode_base64(*bytes) == input);
    if (const auto number = parse_decimal(input)) REEVE_ASSERT(std::to_string(*number) == input);
    if (const auto name = parse_tile_path(input)) REEVE_ASSERT(name->path() == input);
    if (const auto range = merkle::CompactRange::parse(input)) {
        REEVE_ASSERT(range->serialise() == input);
        (void)range->root();
    }
    for (const unsigned width : {1U, 2U, 10U, 256U}) {
        const auto entries = split_bundle(input, width);
        REEVE_ASSERT(!entries || entries->size() == width);
    }
    (void)is_key_name(input);
}

void fuzz_notes(std::string_view input) {
    if (const auto note = parse_note(input)) {
        std::string again = note->text + "\n";
        for (const auto& line : note->signatures) again += line.line;
        REEVE_ASSERT(again == input);
        if (const auto checkpoint = parse_checkpoint(note->text)) {
            REEVE_ASSERT(note->text.starts_with(checkpoint->body()));
        }
    }
    (void)open_checkpoint(input, demo_policy().logs(), demo_policy().witnesses());
    (void)Policy::parse(input);
}

void fuzz_proofs(std::string_view input) {
    if (const auto proof = parse_tlog_proof(input)) {
        REEVE_ASSERT(proof->to_string() == input);
        (void)check_proof(*proof, merkle::leaf_hash(proof->extra.value_or("")), demo_policy());
    }
    if (const auto request = parse_add_checkpoint(input)) {
        REEVE_ASSERT(request->to_string() == input);
    }
    if (const auto evidence = parse_evidence(input)) {
        REEVE_ASSERT(evidence->to_string() == input);
        (void)check_evidence(*evidence, demo_policy());
    }
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
    std::vector<std::string> seeds{"tile/entries/x001/x234/067.p/17", "policy", std::string(96, 0)};
    for (const char* name : {"checkpoint", "log_vkey", "log_skey", "witness_vkey",
                             "add_checkpoint_6_to_10", "tlog_proof_7"}) {
        seeds.push_back(demo()[name].get<std::string>());
    }
    std::string bundle;
    Evidence evidence;
    evidence.checkpoint = demo()["checkpoint"].get<std::string>();
    for (const auto& golden : demo()["entries"]) {
        std::string entry;
        const auto hex = golden["hex"].get<std::string>();
        for (std::size_t i = 0; i < hex.size(); i += 2) {
            entry += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
        }
        seeds.push_back(entry);
        bundle += '\0';
        bundle += static_cast<char>(entry.size());
        bundle += entry;
        evidence.entries.push_back({"role", seeds.size(), entry, {merkle::leaf_hash(entry)}});
    }
    seeds.push_back(bundle);
    seeds.push_back(evidence.to_string());
    seeds.push_back("reeve/audit-evidence@v1\nentry role 1 AAAA");  // once a crash: no newline
    // Once read as two entries: the empty line before the second ends the entries.
    auto parted = evidence.to_string();
    parted.insert(parted.find("entry role", parted.find("entry role") + 1), "\n");
    seeds.push_back(parted);
    seeds.push_back("log " + demo()["log_vkey"].get<std::string>() + "\nwitness w " +
                    demo()["witness_vkey"].get<std::string>() +
                    "\ngroup g 1 w\n# comment\nquorum g\n");
    return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    fuzz_small(input);
    fuzz_notes(input);
    fuzz_proofs(input);
    return 0;
}
