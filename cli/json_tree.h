// JsonNode is a parsed JSON text in which every value knows the line it stands on.
//
// The grammar is nlohmann's (strict: no comments, no trailing commas, UTF-8 checked); on top of it
// a name given twice in one object, nesting deeper than kDepthMax and texts larger than
// kJsonBytesMax are refused. Numbers keep their text: "8" and "8.0" stay what the author wrote.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"

namespace reeve::cli {

inline constexpr std::size_t kDepthMax = 32;
inline constexpr std::size_t kJsonBytesMax = 256ULL << 20;

struct JsonNode {
    enum class Kind { kNull, kBool, kInteger, kReal, kString, kArray, kObject };
    Kind kind = Kind::kNull;
    std::uint32_t line = 0;
    bool flag = false;
    std::string text;  // a string's value, a number as written
    std::vector<JsonNode> items;
    std::vector<std::pair<std::string, JsonNode>> members;  // in the order of the text

    const JsonNode* find(std::string_view name) const;
    const char* kind_name() const;
};

// Errors: kInvalidArgument, "line 3: ..." with what the parser stumbled over.
Result<JsonNode> parse_json(std::string_view text);

}  // namespace reeve::cli
