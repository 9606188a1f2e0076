// A driver for LLVMFuzzerTestOneInput where libFuzzer is not at hand: replays files, then mutates
// them.
//
//   <target> [rounds] [file...]     REEVE_SEED=n repeats a run; the seed is printed first.
//
// Each round takes a seed input (from the files, else from the target's own), spoils it in a few
// places and feeds it. A crash leaves the input in ./fuzz-crash.bin.
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
std::vector<std::string> fuzz_seeds();

namespace {

std::string current;

void keep_input(int signal) {
    const int fd = open("fuzz-crash.bin", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) {
        const auto ignored = write(fd, current.data(), current.size());
        (void)ignored;
        close(fd);
    }
    std::signal(signal, SIG_DFL);
    raise(signal);
}

void feed(std::string input) {
    current = std::move(input);
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(current.data()), current.size());
}

std::size_t below(std::mt19937_64& random, std::size_t end) {
    return static_cast<std::size_t>(random() % end);
}

std::string spoiled(std::string input, const std::string& other, std::mt19937_64& random) {
    static constexpr char kTelling[] = "\n =+/-0123456789ABCabc\0\xFF\x80\xE2";
    for (std::size_t edits = 1 + below(random, 4); edits > 0; --edits) {
        const std::size_t at = below(random, input.size() + 1);
        const std::size_t rest = input.size() - at;
        switch (below(random, 6)) {
            case 0:
                if (rest > 0) input[at] = static_cast<char>(input[at] ^ (1 << below(random, 8)));
                break;
            case 1:
                input.erase(at, below(random, rest + 1));
                break;
            case 2:
                input.insert(at, 1, kTelling[below(random, sizeof kTelling - 1)]);
                break;
            case 3:
                input.insert(at, input.substr(at, below(random, 64)));
                break;
            case 4:
                input.erase(at, 1);
                break;
            default:
                input.insert(at, other.substr(below(random, other.size() + 1), 80));
                break;
        }
    }
    return input;
}

}  // namespace

int main(int argc, char** argv) {
    const char* given = std::getenv("REEVE_SEED");
    const std::uint64_t seed =
        given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    const long rounds = argc > 1 ? std::atol(argv[1]) : 20000;
    std::printf("seed %llu, %ld rounds\n", static_cast<unsigned long long>(seed), rounds);
    std::fflush(stdout);
    for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE}) std::signal(signal, keep_input);

    std::vector<std::string> seeds = fuzz_seeds();
    for (int i = 2; i < argc; ++i) {
        std::ifstream file(argv[i], std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    for (const std::string& input : seeds) feed(input);
    std::mt19937_64 random(seed);
    for (long round = 0; round < rounds && !seeds.empty(); ++round) {
        const std::string& one = seeds[below(random, seeds.size())];
        const std::string& two = seeds[below(random, seeds.size())];
        feed(spoiled(one, two, random));
    }
    std::printf("ok\n");
    return 0;
}
