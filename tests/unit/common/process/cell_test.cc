#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "common/process/cell.h"
#include "common/process/drained.h"
#include "common/process/host.h"
#include "tests/support/catch.h"

using namespace reeve;
namespace fs = std::filesystem;

namespace {

struct Scratch {
    Scratch() {
        char name[] = "/tmp/reeve-test-XXXXXX";
        dir = ::mkdtemp(name);
        ::unsetenv("REEVE_STATE_DIR");
        ::unsetenv("XDG_STATE_HOME");
        ::unsetenv("XDG_RUNTIME_DIR");
    }
    ~Scratch() { fs::remove_all(dir); }
    std::string dir;
};

mode_t mode_of(const std::string& path) {
    struct stat info {};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    return info.st_mode & 0777;
}

}  // namespace

TEST_CASE("Cell: option, variables and home, in this order", "[process]") {
    Scratch scratch;
    ::setenv("HOME", scratch.dir.c_str(), 1);
    CHECK(find_cell("")->dir == scratch.dir + "/.local/state/reeve");
    ::setenv("XDG_STATE_HOME", (scratch.dir + "/xdg").c_str(), 1);
    CHECK(find_cell("")->dir == scratch.dir + "/xdg/reeve");
    ::setenv("REEVE_STATE_DIR", (scratch.dir + "/env").c_str(), 1);
    CHECK(find_cell("")->dir == scratch.dir + "/env");
    CHECK(find_cell(scratch.dir + "/option")->dir == scratch.dir + "/option");
    ::unsetenv("REEVE_STATE_DIR");
    ::unsetenv("XDG_STATE_HOME");
    ::unsetenv("HOME");
    CHECK(find_cell("").error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("Cell: one directory is one cell, however it is spelled", "[process]") {
    Scratch scratch;
    const auto plain = find_cell(scratch.dir + "/c").value();
    CHECK(plain.hash.size() == 12);
    CHECK(find_cell(scratch.dir + "//x/../c/")->hash == plain.hash);
    REQUIRE(::symlink(scratch.dir.c_str(), (scratch.dir + "/link").c_str()) == 0);
    CHECK(find_cell(scratch.dir + "/link/c")->hash == plain.hash);
    CHECK(find_cell(scratch.dir + "/d")->hash != plain.hash);
    const auto here = fs::current_path();
    fs::current_path(scratch.dir);
    CHECK(find_cell("c")->dir == plain.dir);
    fs::current_path(here);
}

TEST_CASE("Cell: directories are private, others' are refused", "[process]") {
    Scratch scratch;
    const auto cell = find_cell(scratch.dir + "/deep/er/c").value();
    REQUIRE(create_cell_directories(cell));
    REQUIRE(create_cell_directories(cell));
    for (const auto& path : {cell.dir, cell.output, cell.logs, cell.run, cell.runtime_dir}) {
        CHECK(mode_of(path) == 0700);
    }
    CHECK(cell.socket.size() <= 107);
    ::chmod(cell.dir.c_str(), 0777);
    const auto refused = create_cell_directories(cell);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("chmod") != std::string::npos);
    ::chmod(cell.dir.c_str(), 0700);
    fs::remove(cell.run);
    std::ofstream(cell.run) << "file";
    CHECK(create_cell_directories(cell).error().message.find(cell.run) != std::string::npos);
    fs::remove_all(cell.runtime_dir);
}

TEST_CASE("Cell: the runtime directory in use is found without the session's variables",
          "[process]") {
    Scratch scratch;
    const auto runtime = scratch.dir + "/run";
    REQUIRE(::mkdir(runtime.c_str(), 0700) == 0);
    ::setenv("XDG_RUNTIME_DIR", runtime.c_str(), 1);
    const auto cell = find_cell(scratch.dir + "/c").value();
    CHECK(cell.runtime_dir == runtime + "/reeve-" + cell.hash);
    REQUIRE(create_cell_directories(cell));
    ::unsetenv("XDG_RUNTIME_DIR");
    CHECK(find_cell(scratch.dir + "/c")->socket == cell.socket);
    // Gone with the session: another place is chosen.
    fs::remove_all(runtime);
    CHECK(find_cell(scratch.dir + "/c")->runtime_dir ==
          "/tmp/reeve-" + std::to_string(::geteuid()) + "/" + cell.hash);
    ::setenv("XDG_RUNTIME_DIR", std::string(120, 'x').c_str(), 1);
    CHECK(find_cell(scratch.dir + "/c")->socket.size() <= 107);
    ::unsetenv("XDG_RUNTIME_DIR");
}

TEST_CASE("Cell: the segment's name is replaced whole", "[process]") {
    Scratch scratch;
    const auto cell = find_cell(scratch.dir + "/c").value();
    REQUIRE(create_cell_directories(cell));
    CHECK(read_segment_name(cell).error().code == ErrorCode::kNotFound);
    REQUIRE(write_segment_name(cell, "/reeve-x-1"));
    REQUIRE(write_segment_name(cell, "/reeve-x-2"));
    CHECK(read_segment_name(cell).value() == "/reeve-x-2");
    std::ofstream(cell.segment_file) << "rubbish";
    CHECK(read_segment_name(cell).error().code == ErrorCode::kDataLoss);
    fs::remove_all(cell.runtime_dir);
}

TEST_CASE("Host: cpus follow the affinity mask", "[process]") {
    const auto all = probe_cpus();
    CHECK(all.cpu_milli >= 1);
    CHECK_FALSE(all.cpus.empty());
    cpu_set_t before;
    CPU_ZERO(&before);
    REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(all.cpus.back()), &one);
    REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
    const auto narrow = probe_cpus();
    CHECK(narrow.cpus == std::vector<int>{all.cpus.back()});
    CHECK(narrow.cpu_milli <= 1000);
    CHECK(narrow.cores == 1);
    REQUIRE(::sched_setaffinity(0, sizeof before, &before) == 0);
    CHECK(probe_memory_bytes() > (1 << 20));
    CHECK_FALSE(host_name().empty());
}

TEST_CASE("Drained: kept by the worker's name until undrained", "[process]") {
    const Scratch scratch;
    const auto cell = find_cell(scratch.dir);
    REQUIRE(cell);
    CHECK_FALSE(is_drained(*cell, "w1"));
    CHECK_FALSE(*set_drained(*cell, "w1", false));
    CHECK_FALSE(fs::exists(scratch.dir + "/drained"));
    CHECK(*set_drained(*cell, "w1", true));
    CHECK_FALSE(*set_drained(*cell, "w1", true));
    CHECK(is_drained(*cell, "w1"));
    CHECK_FALSE(is_drained(*cell, "w2"));
    CHECK(*set_drained(*cell, "w1", false));
    CHECK_FALSE(is_drained(*cell, "w1"));
    // What is no worker's name names no file, here or elsewhere.
    std::ofstream(scratch.dir + "/other") << "x";
    for (const char* name : {"", ".", "..", "../other", "a/b"}) {
        CHECK_FALSE(is_drained(*cell, name));
        CHECK_FALSE(*set_drained(*cell, name, false));
        CHECK_FALSE(*set_drained(*cell, name, true));
    }
    CHECK(fs::exists(scratch.dir + "/other"));
    fs::remove_all(scratch.dir + "/drained");
    std::ofstream(scratch.dir + "/drained") << "in the way";
    const auto refused = set_drained(*cell, "w1", true);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find(scratch.dir + "/drained/w1") != std::string::npos);
}
