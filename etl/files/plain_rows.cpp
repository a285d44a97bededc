// Checks the rows of a plain company file and formats its slice, in one pass: the fast way of what the row rules and
// row_format.py do in Python. They are the reference. On the same bytes this gives the same slice and the same counts,
// or says LOOK_CLOSER, and Python does the work. So whatever is unusual is declined here and judged there.
//
// Nothing is allocated, nothing is thrown, no locale is asked, and no byte outside of the given buffers is touched.

#include <algorithm>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

static_assert(FLT_EVAL_METHOD == 0, "the formulas are float64 at every step, as Python computes them");
#ifdef __FAST_MATH__
#error "-ffast-math changes results"
#endif
#ifndef MBD_SOURCE
#define MBD_SOURCE "" // sha256 of this file; native.py loads no library of another source
#endif

namespace {

constexpr int64_t NO_ROOM = -1, LOOK_CLOSER = -2;
constexpr int64_t MOST_SUSPECTS = 64;       // real files have two or three; of one with more, all rows are looked at
enum Column { DAY, OPEN, HIGH, LOW, CLOSE, VOLUME, WANTED }; // any other number: a column that is passed over

constexpr double JUMP = 7;                  // a factor between two rows below that of any error of a digit: flags.py
constexpr int64_t LONGEST_FLOAT = 24;       // characters, of -1.7976931348623157e+308
constexpr int MOST_DIGITS = 19;             // 10^19 is below 2^64: so many digits cannot wrap
constexpr uint64_t EXACT = uint64_t(1) << 53; // up to here each whole number is a float64
const double POWERS[MOST_DIGITS + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                        1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};

struct Text {
    const char *begin, *end;
};

struct Number {
    uint64_t digits; // without the point
    int decimals;    // how many of them are behind it
    bool point;
};

bool is_digit(char sign) { return sign >= '0' && sign <= '9'; }

// Moves `at` behind digits with at most one point among or behind them; false when there are none or too many.
bool read_number(const char *&at, const char *end, Number &number) {
    uint64_t digits = 0; // wraps where there are too many, which their count shows
    const char *begin = at;
    for (; at < end && is_digit(*at); ++at) digits = digits * 10 + uint64_t(*at - '0');
    const int64_t whole = at - begin;
    int64_t decimals = 0;
    number.point = at < end && *at == '.';
    if (number.point) {
        begin = ++at;
        for (; at < end && is_digit(*at); ++at) digits = digits * 10 + uint64_t(*at - '0');
        decimals = at - begin;
    }
    if (whole == 0 || whole + decimals > MOST_DIGITS) return false;
    number.digits = digits;
    number.decimals = int(decimals);
    return true;
}

// The float64 next to the decimal number. Both operands are exact, so the division rounds once, to the nearest
// (Clinger 1990); false where they are not.
bool to_price(const Number &number, double &price) {
    if (number.digits > EXACT) return false;
    price = double(number.digits) / POWERS[number.decimals];
    return true;
}

int two_digits(const char *at) { return is_digit(at[0]) && is_digit(at[1]) ? (at[0] - '0') * 10 + at[1] - '0' : -1; }

// Moves `at` behind an ISO day that exists, of the years 1 to 9999. The day comes as yyyymmdd; 0 where there is none.
int32_t read_day(const char *&at, const char *end) {
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (end - at < 10 || at[4] != '-' || at[7] != '-') return 0;
    const int century = two_digits(at), rest = two_digits(at + 2), month = two_digits(at + 5), day = two_digits(at + 8);
    if (century < 0 || rest < 0 || month < 1 || month > 12 || day < 1) return 0;
    const int year = century * 100 + rest;
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year < 1 || day > DAYS[month - 1] + (month == 2 && leap)) return 0;
    at += 10;
    return year * 10000 + month * 100 + day;
}

// Behind a field that is not wanted: printable ASCII without quotes, which means the same to every reader.
const char *pass_over(const char *at, const char *end) {
    while (at < end && *at >= ' ' && *at <= '~' && *at != ',' && *at != '"') ++at;
    return at;
}

char *put(char *out, Text text) {
    const size_t length = size_t(text.end - text.begin);
    std::memcpy(out, text.begin, length);
    return out + length;
}

// The shortest decimal that reads back as the same float64, laid out as Python's repr: plain from 1e-4 to 1e16, with
// an exponent of at least two digits elsewhere, and never without a point or an exponent.
char *spell(char *out, double value) {
    const double size = std::fabs(value);
    if (size != 0 && (size < 1e-4 || size >= 1e16))
        return std::to_chars(out, out + LONGEST_FLOAT, value, std::chars_format::scientific).ptr;
    out = std::to_chars(out, out + LONGEST_FLOAT, value, std::chars_format::fixed).ptr;
    if (double(int64_t(value)) == value) {
        *out++ = '.';
        *out++ = '0';
    }
    return out;
}

} // namespace

extern "C" const char *mbd_source() { return MBD_SOURCE; }

// How many of the bytes are line feeds: some twenty times as fast as Python counts them where they are many.
extern "C" int64_t mbd_count_lines(const char *text, int64_t length) { return std::count(text, text + length, '\n'); }

// `body`: what follows the header's line. `columns`: for each of the file's `width` columns a Column, each of the six
// once. `since`: rows of days before it are counted and left out; yyyymmdd, or 0. `name`: the company, for the ninth
// column. `out` should have room for `length`, and for `name_length` + 52 more with each row. `counts`: rows, rows
// before `since`, suspects: rows that flags.py should look at, and behind these three the numbers of the first
// MOST_SUSPECTS of them, in the slice and from 0. Returns the bytes written to `out`, LOOK_CLOSER or NO_ROOM; with these,
// `counts` and `out` hold nothing of use.
extern "C" int64_t mbd_check_plain(const char *body, int64_t length, const uint8_t *columns, int32_t width,
                                   int32_t since, const char *name, int64_t name_length, char *out, int64_t capacity,
                                   int64_t *counts) {
    const char *at = body, *const end = body + length;
    char *const begin = out, *const room = out + capacity;
    int64_t rows = 0, before = 0, suspects = 0;
    double last_price[WANTED] = {NAN, NAN, NAN, NAN, NAN, NAN}; // of the row before; NaN is in no relation to a price
    int32_t last = 0;
    bool windows = false; // line ends are \r\n, as the first one is
    while (at < end) {
        const char *const line = at;
        Text text[WANTED] = {};
        double price[WANTED] = {};
        int32_t day = 0;
        for (int32_t column = 0; column < width; ++column) {
            if (column > 0 && (at == end || *at++ != ',')) return LOOK_CLOSER;
            const char *const field = at;
            const uint8_t wanted = columns[column];
            if (wanted == DAY) {
                day = read_day(at, end);
                if (day <= last) return LOOK_CLOSER; // none, or there may be duplicates
                last = day;
            } else if (wanted < WANTED) {
                Number number;
                if (!read_number(at, end, number)) return LOOK_CLOSER;
                if (wanted == VOLUME ? number.point || number.digits > uint64_t(INT64_MAX)
                                     : !to_price(number, price[wanted]))
                    return LOOK_CLOSER;
            } else {
                at = pass_over(at, end);
            }
            if (wanted < WANTED) text[wanted] = {field, at};
        }
        const int64_t line_length = at - line;
        if (at < end) { // the last line may end without a line end
            const bool returns = *at == '\r';
            if (line == body) windows = returns;
            at += returns;
            if (returns != windows || at == end || *at++ != '\n') return LOOK_CLOSER;
        }
        if (day < since) {
            ++before;
            continue;
        }
        if (room - out < line_length + name_length + 2 * LONGEST_FLOAT + 4) return NO_ROOM;
        for (const Text &field : text) {
            out = put(out, field);
            *out++ = ',';
        }
        const double open = price[OPEN], high = price[HIGH], low = price[LOW], close = price[CLOSE];
        const double percent = (close - open) / open * 100; // price_change.py: the order of operations is the contract
        if (std::isfinite(percent)) out = spell(out, percent);
        *out++ = ',';
        out = spell(out, close - open);
        *out++ = ',';
        out = put(out, {name, name + name_length});
        *out++ = '\n';
        bool looks_wrong = high < low || open < low || open > high || close < low || close > high || low == 0;
        for (int column = OPEN; column <= CLOSE; ++column) {
            looks_wrong |= price[column] > JUMP * last_price[column] || JUMP * price[column] < last_price[column];
            last_price[column] = price[column];
        }
        if (looks_wrong) {
            if (suspects < MOST_SUSPECTS) counts[3 + suspects] = rows;
            ++suspects;
        }
        ++rows;
    }
    counts[0] = rows;
    counts[1] = before;
    counts[2] = suspects;
    return out - begin;
}
