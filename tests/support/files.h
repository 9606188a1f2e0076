// Whole files, for tests: no error is told, a file that cannot be read is empty.
#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace reeve::test {

inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace reeve::test
