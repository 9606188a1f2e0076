#include "plm/core/streamed_results.h"

#include <string>

#include "tests/support/catch.h"

using namespace reeve;

TEST_CASE("StreamedResults: a client reads what was gathered", "[plm][streamed_results]") {
    plm::StreamedResults gathered;
    const std::string large(100'000, 'x');
    const std::string binary("\0\xFF\x80z", 4);
    gathered.add(7, 1, "one");
    gathered.add(7, 300, "");
    gathered.add(8, 1, large);
    v1::TaskResult failed;
    failed.set_element(2);
    failed.set_exit_code(-9);
    gathered.add_other(8, failed);
    gathered.add_ended(8);
    gathered.add_ended(9);
    gathered.add(7, ~std::uint64_t{0}, binary);
    CHECK(gathered.jobs_ended() == 2);

    v1::SubmitReply reply;
    REQUIRE(reply.ParseFromString(gathered.take().SerializeAsString()));
    CHECK(reply.job_ids_size() == 0);
    REQUIRE(reply.results_size() == 4);
    const auto& first = reply.results(0);
    CHECK(first.job() == 7);
    REQUIRE(first.elements_size() == 2);
    REQUIRE(first.results_size() == 2);
    CHECK(first.elements(1) == 300);
    CHECK(first.results(0) == "one");
    CHECK(first.results(1).empty());
    CHECK_FALSE(first.ended());
    const auto& second = reply.results(1);
    CHECK(second.results(0) == large);
    REQUIRE(second.others_size() == 1);
    CHECK(second.others(0).exit_code() == -9);
    CHECK(second.ended());
    CHECK(reply.results(2).job() == 9);
    CHECK(reply.results(2).elements_size() == 0);
    CHECK(reply.results(2).ended());
    CHECK(reply.results(3).elements(0) == ~std::uint64_t{0});
    CHECK(reply.results(3).results(0) == binary);

    CHECK(gathered.jobs_ended() == 0);
    CHECK(gathered.take().ByteSizeLong() == 0);
    gathered.add_ended(1);
    REQUIRE(reply.ParseFromString(gathered.take().SerializeAsString()));
    REQUIRE(reply.results_size() == 1);
    CHECK(reply.results(0).results_size() == 0);
}
