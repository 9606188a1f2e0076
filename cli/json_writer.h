// JsonWriter writes JSON straight into a string, in the order it is told.
//
//   JsonWriter json;
//   json.begin_object().field("schema", "reeve.jobs.v1").key("jobs").begin_array();
//   ...
//   json.end_array().end_object();
//
// Strings that are no UTF-8 have their broken bytes replaced by U+FFFD, so the output always
// parses.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace reeve::cli {

// What a text field of a request has to be; file names and arguments need not.
bool is_utf8(std::string_view text);

class JsonWriter {
public:
    JsonWriter& begin_object() { return open('{'); }
    JsonWriter& end_object() { return close('}'); }
    JsonWriter& begin_array() { return open('['); }
    JsonWriter& end_array() { return close(']'); }
    JsonWriter& key(std::string_view name) {
        comma();
        quote(name);
        out_ += ':';
        fresh_ = true;
        return *this;
    }
    JsonWriter& value(std::string_view text) {
        comma();
        quote(text);
        return *this;
    }
    JsonWriter& value(const char* text) { return value(std::string_view(text)); }
    JsonWriter& value(bool flag) {
        comma();
        out_ += flag ? "true" : "false";
        return *this;
    }
    template <typename T>
    requires(std::integral<T> && !std::same_as<T, bool>) JsonWriter& value(T number) {
        comma();
        out_ += std::to_string(number);
        return *this;
    }
    JsonWriter& value(double number);
    // units / 10^decimals, exactly: money.
    JsonWriter& decimal(std::uint64_t units, unsigned decimals);
    JsonWriter& null() {
        comma();
        out_ += "null";
        return *this;
    }
    template <typename T>
    JsonWriter& field(std::string_view name, const T& content) {
        key(name);
        return value(content);
    }
    // The number, or null when it is 0 ("not yet").
    JsonWriter& field_or_null(std::string_view name, std::uint64_t number) {
        key(name);
        return number == 0 ? null() : value(number);
    }

    const std::string& text() const { return out_; }
    // Writes what is there to stdout with a newline.
    void print() const;

private:
    JsonWriter& open(char bracket) {
        comma();
        out_ += bracket;
        fresh_ = true;
        return *this;
    }
    JsonWriter& close(char bracket) {
        out_ += bracket;
        fresh_ = false;
        return *this;
    }
    void comma() {
        if (!fresh_) out_ += ',';
        fresh_ = false;
    }
    void quote(std::string_view text);

    std::string out_;
    bool fresh_ = true;
};

}  // namespace reeve::cli
