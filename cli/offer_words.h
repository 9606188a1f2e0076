// What a worker offers beyond cpus, memory and GPUs, as people write it: --label, --resource,
// --price, --spot.
//
// `up` gives the same words to each worker it starts. A word that begins with a worker's name and a
// colon is for that one only: --label worker-2:disk=ssd, --price worker-2:0.35.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/base/result.h"
#include "common/model/wants.h"

namespace reeve::cli {

struct OfferWords {
    std::vector<std::string> labels;
    std::vector<std::string> resources;
    std::vector<std::string> zones;
    std::vector<std::string> prices;
    std::vector<std::string> spot_prices;
    bool spot = false;
};
void add_offer_options(CLI::App& command, OfferWords& words);

struct Offer {
    std::vector<std::string> labels;
    std::vector<NamedAmount> resources;
    std::uint32_t price_micro = 0;
    std::uint32_t spot_price_micro = 0;  // price_micro where no other is given
    bool spot = false;
};
// What they mean for the worker of this name; among several prices its own counts, then the last.
Result<Offer> offer_for(const OfferWords& words, const std::string& name);

// For `up`: names nobody but worker-1 ... worker-N, and what is said is sound for each of them.
Status check_offers(const OfferWords& words, std::uint32_t workers);
// The same words again, for a worker's own command line.
std::vector<std::string> offer_arguments(const OfferWords& words);

// --budget USER=AMOUNT: what a user may spend, in billionths by user id.
void add_budget_option(CLI::App& command, std::vector<std::string>& words);
Result<std::map<std::uint32_t, std::uint64_t>> parse_budgets(const std::vector<std::string>& words);

}  // namespace reeve::cli
