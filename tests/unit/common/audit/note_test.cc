#include <sys/stat.h>

#include "common/audit/note.h"
#include "common/audit/text.h"
#include "common/merkle/hash.h"
#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;

namespace {

KeyBytes seed_of(const char* name) {
    KeyBytes seed;
    const std::string bytes = unhex(demo(name));
    std::copy(bytes.begin(), bytes.end(), seed.begin());
    return seed;
}
SigningKey log_key() {
    return *SigningKey::from_seed("reeve.example/demo", KeyType::kNote, seed_of("log_seed"));
}
SigningKey witness_key() {
    return *SigningKey::from_seed("worker-1.reeve.example", KeyType::kCosignature,
                                  seed_of("witness_seed"));
}
VerifierKey log_vkey() {
    return *parse_vkey(demo("log_vkey"));
}
VerifierKey witness_vkey() {
    return *parse_vkey(demo("witness_vkey"));
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
    const auto at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), with);
}

bool opens(const std::string& note) {
    const auto log = log_vkey();
    return open_checkpoint(note, {&log, 1}, {}).has_value();
}
bool opens_cosigned(const std::string& note) {
    const auto log = log_vkey();
    const auto witness = witness_vkey();
    const auto opened = open_checkpoint(note, {&log, 1}, {&witness, 1});
    return opened && opened->cosignatures.size() == 1;
}

std::string checkpoint_body(const std::string& size, const std::string& root) {
    return "origin\n" + size + "\n" + root + "\n";
}

}  // namespace

TEST_CASE("Keys: the demo keys come from their seeds and read back", "[audit]") {
    CHECK(log_key().verifier().to_string() == demo("log_vkey"));
    CHECK(log_key().to_string() == demo("log_skey"));
    CHECK(witness_key().verifier().to_string() == demo("witness_vkey"));
    CHECK(SigningKey::parse(demo("log_skey"))->verifier().to_string() == demo("log_vkey"));
    CHECK(log_vkey().to_string() == demo("log_vkey"));
}

TEST_CASE("Keys: a malformed vkey is refused", "[audit]") {
    const std::string good = demo("log_vkey");
    CHECK(parse_vkey(good));
    for (const std::string& bad :
         {std::string(),
          std::string("x"),
          std::string("a+b"),
          good.substr(1),
          good + "A",
          good.substr(0, good.size() - 1),
          good + "\n",
          " " + good,
          "+" + good,
          replaced(good, "e765ff51", "e765ff52"),
          replaced(good, "e765ff51", "E765FF51"),
          replaced(good, "e765ff51", "e765ff5"),
          replaced(good, "e765ff51", "0e765ff51"),
          replaced(good, "reeve.example/demo", "reeve.example/dem o"),
          replaced(good, "reeve.example/demo", ""),
          replaced(good, "reeve.example/demo", "reeve.example\xC2\xA0/demo"),
          replaced(good, "reeve.example/demo", "reeve.example\xFF/demo"),
          replaced(good, "AQOh", "BAOh"),
          replaced(good, "AQOh", "BgOh"),
          replaced(good, "AQOh", "AQO_")}) {
        INFO(bad);
        CHECK_FALSE(parse_vkey(bad));
    }
    // The same key under type 4 has another id.
    auto relabelled = log_vkey();
    relabelled.type = KeyType::kCosignature;
    CHECK_FALSE(parse_vkey(relabelled.to_string()));
    CHECK_FALSE(SigningKey::parse(good));
    CHECK_FALSE(SigningKey::parse(replaced(demo("log_skey"), "e765ff51", "e765ff50")));
}

TEST_CASE("Keys: a key file is private, whole and never overwritten", "[audit]") {
    reeve::test::TempDirectory directory;
    const std::string path = directory.file("key");
    const auto key = SigningKey::generate("reeve.example/x", KeyType::kNote);
    REQUIRE(key);
    REQUIRE(key->store(path));
    struct stat info {};
    REQUIRE(stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
    CHECK(SigningKey::load(path)->verifier().to_string() == key->verifier().to_string());
    CHECK(key->store(path).error().code == ErrorCode::kAlreadyExists);
    REQUIRE(chmod(path.c_str(), 0640) == 0);
    CHECK(SigningKey::load(path).error().code == ErrorCode::kPermissionDenied);
    CHECK(SigningKey::generate("a b", KeyType::kNote).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("Checkpoint: the demo's is signed, cosigned and read byte for byte", "[audit]") {
    const std::string note = demo("checkpoint");
    const auto log = log_vkey();
    const auto witness = witness_vkey();
    const auto opened = open_checkpoint(note, {&log, 1}, {&witness, 1});
    REQUIRE(opened);
    CHECK(opened->checkpoint.origin == "reeve.example/demo");
    CHECK(opened->checkpoint.size == 10);
    CHECK(merkle::to_hex(opened->checkpoint.root) == demo()["roots"][10].get<std::string>());
    REQUIRE(opened->cosignatures.size() == 1);
    CHECK(opened->cosignatures[0].time_seconds == 1763760060);
    CHECK(sign_checkpoint(opened->checkpoint, log_key()) +
              cosign(opened->note.text, witness_key(), 1763760060) ==
          note);
    CHECK("cosignature/v1\ntime 1763760060\n" + opened->note.text == demo("cosigned_message"));
}

TEST_CASE("Note: every deviation from the form is refused", "[audit]") {
    const std::string note = demo("checkpoint");
    REQUIRE(opens(note));
    const std::string text = note.substr(0, note.find("\n\n") + 1);
    const std::string signatures = note.substr(note.find("\n\n") + 2);
    const std::string first = signatures.substr(0, signatures.find('\n') + 1);
    std::string many;
    for (int i = 0; i < 101; ++i) many += first;
    std::string hundred;
    for (int i = 0; i < 99; ++i) hundred += replaced(first, "reeve.example", "other.example");
    CHECK(opens(text + "\n" + hundred + first));
    for (const std::string& bad : {
             std::string(),
             note.substr(0, note.size() - 1),
             note + "\n",
             text,
             text + "\n",
             text + first,
             "\n" + note,
             replaced(note, "\n\n", "\n\n\n"),
             replaced(note, "demo\n10", "demo\r\n10"),
             replaced(note, "10\n", "1\t0\n"),
             replaced(note, "10\n", std::string("1\0000\n", 4)),
             replaced(note, "10\n", "11\n"),
             replaced(note, "10\n", "010\n"),
             replaced(note, "\xE2\x80\x94 ", "- "),
             replaced(note, "\xE2\x80\x94 ", "\xE2\x80\x93 "),
             replaced(note, "\xE2\x80\x94 ", "\xE2\x80\x94"),
             replaced(note, "\xE2\x80\x94 ", "\xE2\x80\x94  "),
             text + "\n" + many,
             text + "\n" + first + "text\n",
             text + "\n" + replaced(first, "52X/Uc7a", "52X/Uc7b"),  // the signature
             text + "\n" + replaced(first, "52X/U", "52X/V"),        // the key id
             text + "\n" + replaced(first, "demo", "dem\xC3"),       // not UTF-8
             text + "\n" + replaced(first, "ZKAI=", "ZKAJ="),        // pad bits
             text + "\n" + replaced(first, "ZKAI=", "ZKAI"),         // no padding
             text + "\n" + replaced(first, "ZKAI=\n", "ZKAI= \n"),
             text + "\n" + replaced(first, "52X/U", "52X_U"),
             text + "\n\xE2\x80\x94 reeve.example/demo 52X/\n",  // shorter than 5 bytes
             text + "\n\xE2\x80\x94 reeve.example/demo \n",
             replaced(note, "reeve.example/demo 52", "reeve.example/other 52"),
         }) {
        INFO(bad);
        CHECK_FALSE(opens(bad));
    }
    // A known key's bad signature spoils the note even beside a good one.
    const std::string spoiled = replaced(first, "Uc7ajpyY", "Uc7ajpyZ");
    CHECK_FALSE(opens(text + "\n" + first + spoiled));
    CHECK_FALSE(opens(text + "\n" + spoiled + first));
    // An unknown key's line is ignored whatever it holds.
    CHECK(opens(text + "\n" + replaced(spoiled, "demo", "elsewhere") + first));
}

TEST_CASE("Note: s + L does not pass as a second form of a signature", "[audit]") {
    const std::string body = "some text\n";
    const std::string good = log_key().sign(body);
    REQUIRE(log_vkey().verify(body, good));
    // L = 2^252 + 27742317777372353535851937790883648493, little-endian, added to the s half.
    static constexpr unsigned char kOrder[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
                                                 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                                 0,    0,    0,    0,    0,    0,    0,    0,
                                                 0,    0,    0,    0,    0,    0,    0,    0x10};
    std::string forged = good;
    unsigned carry = 0;
    for (std::size_t i = 0; i < 32; ++i) {
        carry += static_cast<unsigned char>(forged[32 + i]) + kOrder[i];
        forged[32 + i] = static_cast<char>(carry & 0xFF);
        carry >>= 8;
    }
    CHECK_FALSE(log_vkey().verify(body, forged));
    CHECK_FALSE(log_vkey().verify(body, good.substr(1)));
    CHECK_FALSE(log_vkey().verify("other text\n", good));
}

TEST_CASE("Cosignature: time, type and text are bound", "[audit]") {
    const std::string note = demo("checkpoint");
    REQUIRE(opens_cosigned(note));
    const std::string text = note.substr(0, note.find("\n\n") + 1);
    const std::string log_line = signature_line(log_vkey(), log_key().sign(text));
    const auto with = [&](const std::string& line) { return text + "\n" + log_line + line; };
    const std::string good = cosign(text, witness_key(), 1763760060);
    REQUIRE(with(good) == note);

    const auto forged = [&](std::uint64_t time) {
        std::string payload = *decode_base64(
            std::string_view(good).substr(good.rfind(' ') + 1, good.size() - good.rfind(' ') - 2));
        for (int i = 0; i < 8; ++i) {
            payload[static_cast<std::size_t>(4 + i)] = static_cast<char>(time >> (56 - 8 * i));
        }
        return good.substr(0, good.rfind(' ') + 1) + encode_base64(payload) + "\n";
    };
    REQUIRE(with(forged(1763760060)) == note);
    CHECK_FALSE(opens_cosigned(with(forged(1763760061))));
    CHECK_FALSE(opens_cosigned(with(forged(0))));
    CHECK_FALSE(opens_cosigned(with(forged(std::uint64_t{1} << 63))));
    // A plain signature by the witness's key is no cosignature, under either key id.
    const std::string plain = witness_key().sign(text);
    CHECK_FALSE(opens_cosigned(with(signature_line(witness_vkey(), plain))));
    auto as_note = witness_vkey();
    as_note.type = KeyType::kNote;
    CHECK_FALSE(opens_cosigned(with(signature_line(as_note, plain))));
    // The whole body is covered, extension lines too.
    const std::string longer = text + "extension\n";
    const std::string longer_log = signature_line(log_vkey(), log_key().sign(longer));
    CHECK_FALSE(opens_cosigned(longer + "\n" + longer_log + good));
    CHECK(opens_cosigned(longer + "\n" + longer_log + cosign(longer, witness_key(), 5)));
    // Twice the same witness counts once; without any, the note is good but not cosigned.
    CHECK(opens_cosigned(with(good + cosign(text, witness_key(), 1763760099))));
    CHECK_FALSE(opens_cosigned(with("")));
    // Over something that is no checkpoint it means nothing.
    const NoteSignature line = parse_note(with(good))->signatures[1];
    CHECK(verify_cosignature(text, line, witness_vkey()));
    CHECK_FALSE(verify_cosignature("not a checkpoint\n", line, witness_vkey()));
}

TEST_CASE("Checkpoint: the body has one spelling", "[audit]") {
    const std::string root = "NyqrVQiq3vm6GSseIiwBuct68GozLJNx/xJNAc8u8dM=";
    CHECK(parse_checkpoint(checkpoint_body("10", root)));
    CHECK(parse_checkpoint(checkpoint_body("9223372036854775807", root)));
    CHECK(parse_checkpoint(checkpoint_body("10", root) + "extension\n"));
    const std::string empty = merkle_base64(merkle::empty_root());
    CHECK(parse_checkpoint(checkpoint_body("0", empty)));
    for (const char* size :
         {"010", "+10", "-10", "0x10", " 10", "10 ", "1 0", "", "1e1", "\xEF\xBC\x91\xEF\xBC\x90",
          "9223372036854775808", "18446744073709551616", "00"}) {
        INFO(size);
        CHECK_FALSE(parse_checkpoint(checkpoint_body(size, root)));
    }
    CHECK_FALSE(parse_checkpoint(checkpoint_body("0", root)));
    for (const std::string& bad :
         {encode_base64(std::string(31, 'x')), encode_base64(std::string(33, 'x')),
          std::string("NyqrVQiq3vm6GSseIiwBuct68GozLJNx_xJNAc8u8dM="),
          std::string("NyqrVQiq3vm6GSseIiwBuct68GozLJNx/xJNAc8u8dM"),
          std::string("NyqrVQiq3vm6GSseIiwBuct68GozLJNx/xJNAc8u8dN="), std::string()}) {
        INFO(bad);
        CHECK_FALSE(parse_checkpoint(checkpoint_body("10", bad)));
    }
    CHECK_FALSE(parse_checkpoint("origin\n10\n"));
    CHECK_FALSE(parse_checkpoint("\n10\n" + root + "\n"));
    CHECK_FALSE(parse_checkpoint(checkpoint_body("10", root) + "\n"));
    CHECK_FALSE(parse_checkpoint("origin\n10\n" + root));
}

TEST_CASE("Base64: the known answers, and only canonical input", "[audit]") {
    const std::pair<const char*, const char*> pairs[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
    for (const auto& [plain, coded] : pairs) {
        CHECK(encode_base64(plain) == coded);
        CHECK(decode_base64(coded) == plain);
    }
    for (const char* bad : {"Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "=Zg=", "====", "Zm 9v",
                            "Zm9v\n", "Zm-_"}) {
        INFO(bad);
        CHECK_FALSE(decode_base64(bad));
    }
}

TEST_CASE("UTF-8: overlong forms, surrogates and stray bytes are refused", "[audit]") {
    CHECK(is_utf8("a\xC3\xA9\xE2\x80\x94\xF0\x9F\x98\x80"));
    for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x80\x80", "\xED\xA0\x80",
                            "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
        CHECK_FALSE(is_utf8(bad));
    }
    CHECK_FALSE(
        is_key_name("a\xE2\x80\xA8"
                    "b"));
    CHECK_FALSE(
        is_key_name("a\xE3\x80\x80"
                    "b"));
    CHECK_FALSE(
        is_key_name("a\xC2\x85"
                    "b"));
    CHECK(is_key_name("caf\xC3\xA9/x"));
}
