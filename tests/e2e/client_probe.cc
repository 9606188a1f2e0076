// What a C++ program does with reeve::Client, for test_client.py.
//
//   client_probe DIR echo JOBS TASKS     so many jobs at once; prints how many results were right
//   client_probe DIR refused             what a refusal looks like
//   client_probe DIR process             queue, wait, logs, cancel
//   client_probe DIR several             jobs in one request, all or none, and under a key
//   client_probe DIR text                text that is not UTF-8, refused by each call
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/client/client.h"

namespace {

int echo(reeve::Client& client, int jobs, int tasks) {
    std::vector<std::future<reeve::Client::Outcomes>> futures;
    for (int i = 0; i < jobs; ++i) {
        reeve::Job job;
        job.function = "echo";
        for (int t = 0; t < tasks; ++t) {
            job.data.push_back(std::to_string(i) + "/" + std::to_string(t));
        }
        futures.push_back(client.submit(job));
    }
    int right = 0;
    int wrong = 0;
    for (int i = 0; i < jobs; ++i) {
        const auto outcomes = futures[static_cast<std::size_t>(i)].get();
        wrong += static_cast<int>(outcomes.size()) != tasks ? 1 : 0;
        for (std::size_t t = 0; t < outcomes.size(); ++t) {
            const auto expected = std::to_string(i) + "/" + std::to_string(t);
            (outcomes[t].ok() && outcomes[t].result == expected ? right : wrong) += 1;
        }
    }
    std::printf("right %d wrong %d open %zu\n", right, wrong, client.open_jobs());
    return wrong == 0 ? 0 : 1;
}

int refused(reeve::Client& client) {
    reeve::Job bad;
    bad.function = std::string(100, 'x');
    reeve::Job good;
    good.function = "echo";
    good.data = {"fine"};
    auto first = client.submit(bad);
    auto second = client.submit(good);
    try {
        (void)first.get();
        return 1;
    } catch (const std::runtime_error& why) {
        std::printf("%s\n", why.what());
    }
    std::printf("%s\n", second.get().at(0).result.c_str());
    return 0;
}

int process(reeve::Client& client) {
    reeve::Job job;
    job.argv = {"/bin/sh", "-c", "echo from a program"};
    auto id = client.queue(job);
    if (!id || !client.wait(*id, std::chrono::seconds(30))) return 1;
    auto text = client.logs(*id);
    auto outcomes = client.results(*id);
    if (!text || !outcomes) return 1;
    std::printf("%s%s\n", text->c_str(), outcomes->at(0).outcome.c_str());
    job.argv = {"/bin/sleep", "60"};
    auto long_one = client.queue(job);
    if (!long_one || !client.cancel(*long_one, "not needed")) return 1;
    if (!client.wait(*long_one, std::chrono::seconds(30))) return 1;
    std::printf("%s\n", client.results(*long_one)->at(0).outcome.c_str());
    return 0;
}

int several(reeve::Client& client) {
    reeve::Job good;
    good.argv = {"/bin/true"};
    good.key = "once";
    reeve::Job bad = good;
    bad.argv = {""};
    bad.key.clear();
    auto none = client.queue({good, bad});
    std::printf("%s\n", none ? "queued" : none.error().c_str());
    reeve::Job other = good;
    other.key.clear();
    auto two = client.queue({good, other});
    if (!two) return 1;
    auto again = client.queue(good);
    if (!again) return 1;
    std::printf("%zu %s %s\n", two->size(), (*two)[0] == *again ? "once" : "twice",
                (*two)[0] < (*two)[1] ? "in order" : "mixed");
    return 0;
}

int text(reeve::Client& client) {
    reeve::Job job;
    job.argv = {"/bin/echo", "\xff"};
    std::printf("%s\n", client.queue(job).error().c_str());
    try {
        (void)client.submit(job).get();
        return 1;
    } catch (const std::runtime_error& why) {
        std::printf("%s\n", why.what());
    }
    std::printf("%s\n", client.cancel(1, "\xff").error().c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    auto client = reeve::Client::connect(argv[1]);
    if (!client) {
        std::printf("%s\n", client.error().c_str());
        return 1;
    }
    const std::string what = argv[2];
    try {
        if (what == "echo" && argc == 5) {
            return echo(**client, std::atoi(argv[3]), std::atoi(argv[4]));
        }
        if (what == "text") return text(**client);
        if (what == "several") return several(**client);
        return what == "refused" ? refused(**client) : process(**client);
    } catch (const std::runtime_error& why) {
        std::printf("failed: %s\n", why.what());
        return 1;
    }
}
