#include "tests/unit/cli/schema.h"

#include <algorithm>
#include <fstream>
#include <regex>
#include <set>

namespace reeve::cli::test {

using nlohmann::json;

namespace {

const std::set<std::string> kKnown{
    "$schema", "title", "type",     "enum",     "const",      "pattern",  "minimum",
    "maximum", "items", "minItems", "maxItems", "properties", "required", "additionalProperties",
    "anyOf",   "$ref",  "$defs"};

bool is_type(const json& value, const std::string& type) {
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    return type == "null" && value.is_null();
}

}  // namespace

const json& SchemaChecker::load(const std::string& file) {
    const auto found = files_.find(file);
    if (found != files_.end()) return found->second;
    std::ifstream in(directory_ + "/" + file);
    return files_.emplace(file, json::parse(in)).first->second;
}

std::vector<std::string> SchemaChecker::check(const json& document, const std::string& file) {
    problems_.clear();
    visit(document, load(file), file, "$");
    return problems_;
}

void SchemaChecker::visit(const json& value, const json& schema, const std::string& file,
                          const std::string& path) {
    for (const auto& [name, unused] : schema.items()) {
        if (kKnown.count(name) == 0)
            fail(path, "the schema uses " + name + ", which is not checked");
    }
    if (schema.contains("$ref")) {
        const std::string target = schema["$ref"];
        const auto hash = target.find('#');
        const auto where = hash == 0 ? file : target.substr(0, hash);
        visit(value, load(where).at(json::json_pointer(target.substr(hash + 1))), where, path);
        return;
    }
    if (schema.contains("anyOf")) {
        const auto before = problems_;
        for (const auto& choice : schema["anyOf"]) {
            problems_.clear();
            visit(value, choice, file, path);
            if (problems_.empty()) {
                problems_ = before;
                return;
            }
        }
        problems_ = before;
        fail(path, "fits none of the choices");
        return;
    }
    if (schema.contains("type")) check_type(value, schema["type"], path);
    check_scalar(value, schema, path);
    if (value.is_object()) check_object(value, schema, file, path);
    if (!value.is_array()) return;
    if (schema.contains("minItems") && value.size() < schema["minItems"]) fail(path, "too short");
    if (schema.contains("maxItems") && value.size() > schema["maxItems"]) fail(path, "too long");
    if (!schema.contains("items")) return;
    for (std::size_t i = 0; i < value.size(); ++i) {
        visit(value[i], schema["items"], file, path + "[" + std::to_string(i) + "]");
    }
}

void SchemaChecker::check_type(const json& value, const json& types, const std::string& path) {
    const auto list = types.is_array() ? types : json::array({types});
    const bool good = std::any_of(list.begin(), list.end(), [&](const json& type) {
        return is_type(value, type.get<std::string>());
    });
    if (!good) fail(path, "is no " + types.dump() + " but " + value.dump().substr(0, 60));
}

void SchemaChecker::check_scalar(const json& value, const json& schema, const std::string& path) {
    if (schema.contains("const") && value != schema["const"]) fail(path, "is not the constant");
    if (schema.contains("enum")) {
        const auto& list = schema["enum"];
        if (std::find(list.begin(), list.end(), value) == list.end()) {
            fail(path, value.dump() + " is not in the list");
        }
    }
    if (schema.contains("pattern") && value.is_string()) {
        const std::regex pattern(schema["pattern"].get<std::string>());
        if (!std::regex_search(value.get<std::string>(), pattern)) {
            fail(path, value.dump() + " does not match the pattern");
        }
    }
    if (schema.contains("minimum") && value.is_number() && value < schema["minimum"]) {
        fail(path, "is too small");
    }
    if (schema.contains("maximum") && value.is_number() && value > schema["maximum"]) {
        fail(path, "is too large");
    }
}

void SchemaChecker::check_object(const json& value, const json& schema, const std::string& file,
                                 const std::string& path) {
    if (schema.contains("required")) {
        for (const auto& name : schema["required"]) {
            if (!value.contains(name.get<std::string>())) fail(path, "lacks " + name.dump());
        }
    }
    for (const auto& [name, member] : value.items()) {
        const auto place = path + "." + name;
        if (schema.contains("properties") && schema["properties"].contains(name)) {
            visit(member, schema["properties"][name], file, place);
        } else if (schema.contains("additionalProperties")) {
            const auto& more = schema["additionalProperties"];
            if (more.is_boolean()) {
                if (!more.get<bool>()) fail(place, "is not in the schema");
            } else {
                visit(member, more, file, place);
            }
        }
    }
}

}  // namespace reeve::cli::test
