// A JSON Schema checker, as much of draft 2020-12 as docs/formats/schema uses; anything else in a
// schema is a failure, so that a schema never promises what is not checked.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace reeve::cli::test {

class SchemaChecker {
public:
    // `directory` holds the schema files.
    explicit SchemaChecker(std::string directory) : directory_(std::move(directory)) {}

    // What is wrong with `document` by the schema in `file`; empty when nothing is.
    std::vector<std::string> check(const nlohmann::json& document, const std::string& file);

private:
    const nlohmann::json& load(const std::string& file);
    void visit(const nlohmann::json& value, const nlohmann::json& schema, const std::string& file,
               const std::string& path);
    void check_type(const nlohmann::json& value, const nlohmann::json& types,
                    const std::string& path);
    void check_object(const nlohmann::json& value, const nlohmann::json& schema,
                      const std::string& file, const std::string& path);
    void check_scalar(const nlohmann::json& value, const nlohmann::json& schema,
                      const std::string& path);
    void fail(const std::string& path, const std::string& what) {
        problems_.push_back(path + ": " + what);
    }

    std::string directory_;
    std::map<std::string, nlohmann::json> files_;
    std::vector<std::string> problems_;
};

}  // namespace reeve::cli::test
