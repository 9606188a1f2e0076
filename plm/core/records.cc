#include "plm/core/records.h"

#include "common/base/bytes.h"
#include "plm/core/entry_pack.h"

namespace reeve::plm {
namespace {

// Field walkers: one function per record lists its fields once, for writing and for reading.
struct Writer {
    ByteWriter out;
    template <typename T>
    void field(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            out.put(static_cast<std::uint8_t>(value));
        } else {
            out.put(value);
        }
    }
    void text(std::string& value) { out.put_bytes(value); }
    template <typename T>
    void late_field(T& value) {
        field(value);
    }
    void late_text(std::string& value) { text(value); }
};

struct Reader {
    ByteReader in;
    template <typename T>
    void field(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            value = in.get<std::uint8_t>() != 0;
        } else {
            value = in.get<T>();
        }
    }
    void text(std::string& value) { value = in.get_bytes(); }
    // Fields that older records end before.
    template <typename T>
    void late_field(T& value) {
        if (!in.at_end()) field(value);
    }
    void late_text(std::string& value) {
        if (!in.at_end()) text(value);
    }
};

template <typename Walker>
void walk(Walker& w, WorkerId& id) {
    w.field(id.number);
    w.field(id.incarnation);
}
template <typename Walker>
void walk(Walker& w, JobSubmitted& r) {
    w.field(r.job), w.field(r.uid), w.field(r.gid), w.field(r.submit_ns);
    w.field(r.first_sequence), w.text(r.spec);
    w.late_field(r.fair_milli);
}
template <typename Walker>
void walk(Walker& w, Admitted& r) {
    w.field(r.job), w.field(r.first), w.field(r.count), w.field(r.held);
}
template <typename Walker>
void walk(Walker& w, TaskMoved& r) {
    w.field(r.job), w.field(r.ordinal), w.field(r.state), w.field(r.attempt);
    walk(w, r.worker);
    w.field(r.wall_ns), w.field(r.deaths), w.field(r.retries_used), w.field(r.intent);
}
template <typename Walker>
void walk(Walker& w, TaskEnded& r) {
    w.field(r.job), w.field(r.ordinal), w.field(r.attempt), w.field(r.outcome), w.field(r.final);
    w.field(r.core_dumped), w.field(r.exit_code);
    walk(w, r.worker);
    w.field(r.assigned_ns), w.field(r.started_ns), w.field(r.ended_ns), w.field(r.user_us);
    w.field(r.system_us), w.field(r.max_rss_bytes), w.text(r.detail);
    w.late_text(r.result);
    w.late_field(r.deaths);
}
template <typename Walker>
void walk(Walker& w, JobChanged& r) {
    w.field(r.job), w.field(r.change), w.field(r.value), w.field(r.other), w.text(r.text);
}
template <typename Walker>
void walk(Walker& w, RunCancelled& r) {
    w.field(r.job), w.field(r.first), w.field(r.last), w.field(r.rest), w.field(r.wall_ns);
}
template <typename Walker>
void walk(Walker& w, TaskRetried& r) {
    w.field(r.job), w.field(r.ordinal), w.field(r.attempt), w.field(r.wall_ns);
}
template <typename Walker>
void walk(Walker& w, WorkerChanged& r) {
    walk(w, r.worker);
    w.field(r.change), w.text(r.name), w.field(r.leaf);
    w.late_field(r.price_micro);
}
template <typename Walker>
void walk(Walker& w, EpochOpened& r) {
    w.field(r.epoch), w.field(r.segment_generation);
}
void walk(Writer& w, AuditEntries& r) {
    w.field(r.first_leaf);
    auto count = static_cast<std::uint32_t>(r.entries.size());
    w.field(count);
    for (auto& entry : r.entries) w.text(entry);
}
template <typename Walker>
void walk(Walker& w, PackedEntries& r) {
    w.field(r.first_leaf), w.field(r.count), w.text(r.packed);
}
void walk(Reader& w, AuditEntries& r) {
    w.field(r.first_leaf);
    std::uint32_t count = 0;
    w.field(count);
    for (std::uint32_t i = 0; i < count && w.in.ok(); ++i) w.text(r.entries.emplace_back());
}

// Nothing else is in its frame.
void walk(Writer& w, PackedRecords& r) {
    for (const char byte : r.packed) w.out.put(byte);
}
void walk(Reader& w, PackedRecords& r) {
    r.packed = w.in.rest();
}

template <std::size_t I = 0>
Result<Record> decode_as(std::uint8_t type, std::string_view body) {
    if constexpr (I < std::variant_size_v<Record>) {
        if (type != I + 1) return decode_as<I + 1>(type, body);
        std::variant_alternative_t<I, Record> record;
        Reader reader{ByteReader(body)};
        walk(reader, record);
        if (!reader.in.ok()) {
            return fail(ErrorCode::kDataLoss,
                        "ledger record of type " + std::to_string(type) + " is cut short");
        }
        return Record{std::move(record)};
    } else {
        return fail(ErrorCode::kDataLoss,
                    "the ledger holds records of type " + std::to_string(type) +
                        ", which a newer reeve writes; start the cell with that one");
    }
}

}  // namespace

std::string encode(const Record& record) {
    std::string bytes;
    encode_to(bytes, record);
    return bytes;
}

void encode_to(std::string& out, const Record& record) {
    out.push_back(static_cast<char>(record.index() + 1));
    Writer writer{ByteWriter(out)};
    // A walk serves both ways, so it takes a record it may change; a Writer changes nothing.
    std::visit(
        [&](const auto& one) { walk(writer, const_cast<std::decay_t<decltype(one)>&>(one)); },
        record);
}

namespace {

template <typename T, std::size_t I = 0>
constexpr std::size_t index_of() {
    if constexpr (std::is_same_v<std::variant_alternative_t<I, Record>, T>) {
        return I;
    } else {
        return index_of<T, I + 1>();
    }
}

template <typename T>
void encode_one(std::string& out, const T& record) {
    out.push_back(static_cast<char>(index_of<T>() + 1));
    Writer writer{ByteWriter(out)};
    walk(writer, const_cast<T&>(record));  // a Writer changes nothing
}

}  // namespace

static_assert(index_of<PackedRecords>() + 1 == kPackedRecordsType);

void encode_entries(std::string& out, std::uint64_t first_leaf, std::string_view bundle,
                    std::uint32_t count) {
    PackedEntries record{first_leaf, count, {}};
    pack_entries(record.packed, bundle, count);
    encode_one(out, record);
}

Result<Record> decode(std::string_view bytes) {
    if (bytes.empty()) return fail(ErrorCode::kDataLoss, "empty ledger record");
    return decode_as(static_cast<std::uint8_t>(bytes[0]), bytes.substr(1));
}

}  // namespace reeve::plm
