// TempDirectory is a fresh 0700 directory that goes, with everything in it, at the end of a test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/assert.h"

namespace reeve::test {

class TempDirectory {
public:
    TempDirectory() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "reeve-test-XXXXXX").string();
        REEVE_ASSERT(mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    ~TempDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDirectory(const TempDirectory&) = delete;
    TempDirectory& operator=(const TempDirectory&) = delete;

    const std::string& path() const { return path_; }
    std::string file(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

}  // namespace reeve::test
