#include "cli/offer_words.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "cli/units.h"
#include "common/model/resources.h"
#include "common/model/wants.h"
#include "common/process/users.h"

namespace reeve::cli {

namespace {

tl::unexpected<Error> bad(const std::string& message) {
    return fail(ErrorCode::kInvalidArgument, message);
}

// "worker-2:0.35" is for worker-2; "0.35" for all.
std::string scope_of(const std::string& word) {
    const auto colon = word.find(':');
    return colon == std::string::npos ? "" : word.substr(0, colon);
}

std::string value_of(const std::string& word) {
    const auto colon = word.find(':');
    return colon == std::string::npos ? word : word.substr(colon + 1);
}

bool is_for(const std::string& word, const std::string& name) {
    return word.find(':') == std::string::npos || scope_of(word) == name;
}

std::vector<NamedAmount>::const_iterator find_named(const std::vector<NamedAmount>& all,
                                                    const std::string& name) {
    return std::find_if(all.begin(), all.end(),
                        [&](const auto& amount) { return amount.name == name; });
}

Status add_labels(const char* flag, const std::vector<std::string>& words, const std::string& name,
                  const std::string& prefix, std::vector<std::string>& labels) {
    for (const auto& word : words) {
        if (!is_for(word, name)) continue;
        const auto label = prefix + value_of(word);
        if (!names_a_value(label)) {
            return bad(std::string(flag) + ": \"" + word.substr(0, 80) +
                       "\" is no label; write KEY=VALUE, 3 to 63 letters, digits and "
                       "_ - . / +");
        }
        if (label.starts_with(kNodeLabel)) {
            return bad(std::string(flag) + ": node=... is every worker's own name; leave it out");
        }
        labels.push_back(label);
    }
    return {};
}

// Named resources; what is said for one worker goes before what is said for all.
Status add_resources(const std::vector<std::string>& words, const std::string& name,
                     std::vector<NamedAmount>& resources) {
    std::vector<NamedAmount> all;
    for (const auto& word : words) {
        if (!is_for(word, name)) continue;
        auto amount = parse_amount_of(value_of(word), false);
        if (!amount) return fail(std::move(amount).error().with("--resource"));
        auto& target = scope_of(word).empty() ? all : resources;
        if (find_named(target, amount->name) != target.end()) {
            return bad("--resource: " + amount->name + " is named twice" +
                       (scope_of(word).empty() ? "" : " for " + name) + "; write one number");
        }
        target.push_back(std::move(*amount));
    }
    for (auto& amount : all) {
        if (find_named(resources, amount.name) == resources.end()) {
            resources.push_back(std::move(amount));
        }
    }
    std::sort(resources.begin(), resources.end());
    if (resources_have_room(resources, std::mem_fn(&NamedAmount::name),
                            std::mem_fn(&NamedAmount::count))) {
        return {};
    }
    return bad("--resource: " + name +
               " has more than 8, or more than 111 bytes of them; name fewer");
}

Result<std::optional<std::uint32_t>> price_in(const char* flag,
                                              const std::vector<std::string>& words,
                                              const std::string& name) {
    std::optional<std::uint32_t> all;
    std::optional<std::uint32_t> own;
    for (const auto& word : words) {
        if (!is_for(word, name)) continue;
        auto price = parse_price(value_of(word));
        if (!price) return fail(std::move(price).error().with(flag));
        auto& target = scope_of(word).empty() ? all : own;
        if (target) {
            return bad(std::string(flag) + ": is given twice for " +
                       (scope_of(word).empty() ? "all workers" : name) + "; write one price");
        }
        target = *price;
    }
    return own ? own : all;
}

}  // namespace

void add_offer_options(CLI::App& command, OfferWords& words) {
    const auto list = [&command](const char* flag, std::vector<std::string>& target,
                                 const char* value, const char* help) {
        command.add_option(flag, target, help)
            ->type_name(value)
            ->expected(1)
            ->allow_extra_args(false)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    list("--label", words.labels, "KEY=VALUE", "what jobs may ask for with --label; several times");
    list("--resource", words.resources, "NAME=N",
         "it has N of this, which jobs ask for with --resource; several times");
    list("--zone", words.zones, "ZONE", "the same as --label zone=ZONE");
    list("--price", words.prices, "PRICE", "what an hour of it costs, like 1.20 (0)");
    command.add_flag("--spot", words.spot, "it may vanish: only flexible and spot work runs on it");
    list("--spot-price", words.spot_prices, "PRICE",
         "spot, and what an hour costs as long as it is there");
}

Result<Offer> offer_for(const OfferWords& words, const std::string& name) {
    Offer offer;
    REEVE_TRY(add_labels("--label", words.labels, name, "", offer.labels));
    REEVE_TRY(add_labels("--zone", words.zones, name, "zone=", offer.labels));
    std::sort(offer.labels.begin(), offer.labels.end());
    offer.labels.erase(std::unique(offer.labels.begin(), offer.labels.end()), offer.labels.end());
    std::size_t bytes = 0;
    for (const auto& label : offer.labels) bytes += label.size() + 1;
    if (bytes > kLabelsOfferedBytesMax) {
        return bad("--label: the labels of " + name + " are longer than 511 bytes together");
    }
    REEVE_TRY_ASSIGN(const auto price, price_in("--price", words.prices, name));
    REEVE_TRY_ASSIGN(const auto spot_price, price_in("--spot-price", words.spot_prices, name));
    REEVE_TRY(add_resources(words.resources, name, offer.resources));
    offer.price_micro = price.value_or(0);
    offer.spot = words.spot || spot_price.has_value();
    offer.spot_price_micro = spot_price.value_or(offer.price_micro);
    return offer;
}

Status check_offers(const OfferWords& words, std::uint32_t workers) {
    const auto name_of = [](std::uint32_t i) { return "worker-" + std::to_string(i); };
    const auto check_names = [&](const char* flag, const std::vector<std::string>& all) -> Status {
        for (const auto& word : all) {
            if (word.find(':') == std::string::npos) continue;
            bool known = false;
            for (std::uint32_t i = 1; i <= workers && !known; ++i) {
                known = scope_of(word) == name_of(i);
            }
            if (known) continue;
            return bad(std::string(flag) + ": \"" + word.substr(0, 80) +
                       "\" is for a worker that is not started; up starts " +
                       (workers == 0   ? std::string("none")
                        : workers == 1 ? std::string("worker-1")
                                       : "worker-1 to " + name_of(workers)));
        }
        return {};
    };
    REEVE_TRY(check_names("--label", words.labels));
    REEVE_TRY(check_names("--resource", words.resources));
    REEVE_TRY(check_names("--zone", words.zones));
    REEVE_TRY(check_names("--price", words.prices));
    REEVE_TRY(check_names("--spot-price", words.spot_prices));
    for (std::uint32_t i = 1; i <= workers; ++i) {
        if (auto offer = offer_for(words, name_of(i)); !offer) return fail(offer.error());
    }
    return {};
}

void add_budget_option(CLI::App& command, std::vector<std::string>& words) {
    command
        .add_option("--budget", words,
                    "what a user may spend: beyond it their tasks wait; several times")
        ->type_name("USER=AMOUNT")
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

Result<std::map<std::uint32_t, std::uint64_t>> parse_budgets(
    const std::vector<std::string>& words) {
    std::map<std::uint32_t, std::uint64_t> out;
    for (const auto& word : words) {
        const auto equals = word.find('=');
        if (equals == std::string::npos || equals == 0) {
            return bad("--budget: \"" + word.substr(0, 80) +
                       "\" is no budget; write USER=AMOUNT, like ann=100");
        }
        const auto user = word.substr(0, equals);
        auto amount = parse_amount(word.substr(equals + 1));
        if (!amount) return fail(std::move(amount).error().with("--budget " + user));
        const auto uid = user_id(user);
        if (!uid) {
            return bad("--budget: there is no user " + user.substr(0, 80) +
                       " here; write a name or a user id");
        }
        if (!out.emplace(*uid, *amount).second) {
            return bad("--budget: " + user + " is named twice; write one amount");
        }
    }
    return out;
}

std::vector<std::string> offer_arguments(const OfferWords& words) {
    std::vector<std::string> out;
    const auto add = [&out](const char* flag, const std::vector<std::string>& all) {
        for (const auto& word : all) out.insert(out.end(), {flag, word});
    };
    add("--label", words.labels);
    add("--resource", words.resources);
    add("--zone", words.zones);
    add("--price", words.prices);
    add("--spot-price", words.spot_prices);
    if (words.spot) out.emplace_back("--spot");
    return out;
}

}  // namespace reeve::cli
