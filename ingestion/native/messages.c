/* JSON messages of a known shape into columns, in one pass over the joined messages.
 *
 * What is taken is read as Arrow reads it. Everything unusual (an escape, a field that is not of the shape, one that comes twice, another type, a
 * number of more than 19 digits) makes its message odd: somebody else reads it. So this is fast where messages are ordinary and never lenient.
 * See ingestion/decode/reader.py, which holds the other half of every agreement made here.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "eight digits at once are read as a little-endian number"
#endif

#ifndef SOURCE
#define SOURCE ""
#endif
const char *const source = SOURCE; /* SHA-256 of this file, by which the two halves are known to agree */

enum kind { OTHER, REAL, WHOLE, TEXT, TRUTH, OBJECT };
enum { NOT_SENT, SENT, NIL };
enum { DEEPEST = 8, MOST_DIGITS = 19, MOST_WHOLE = 18, MOST_EXPONENT = 4 };

/* The fields of a shape, each object's behind each other; field 0 is the message itself. */
struct plan {
    int64_t fields;
    const int32_t *kind;      /* enum kind; of OTHER only null is read */
    const int32_t *slot;      /* its column among those of its kind */
    const int32_t *first;     /* of an object: its first field */
    const int32_t *count;     /* of an object: how many it has */
    const int32_t *name_from; /* [fields + 1]: where its name begins in names */
    const uint8_t *names;
    const uint64_t *fives; /* [powers][2]: the 128 leading bits of 5**power, upper half first */
    int64_t lowest, highest; /* powers there are */
};

/* Room for the values, column by column, `most` rows each. */
struct columns {
    int64_t most;
    double *reals;
    int64_t *wholes;
    int32_t *begins, *ends; /* of texts: where they lie */
    uint8_t *truths;
    uint8_t *sent; /* [fields][most], all NOT_SENT at first */
};

static const double TENS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static inline const uint8_t *skip(const uint8_t *at) {
    /* Behind the blanks; a line's end is none. */
    while (*at == ' ' || *at == '\t' || *at == '\r') at++;
    return at;
}

static inline bool is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

static const uint8_t *digits(const uint8_t *at, uint64_t *number) {
    /* Behind the digits, appended to the number; eight at once as in D. Lemire, Number parsing at a gigabyte per second. */
    for (;;) {
        uint64_t eight;
        memcpy(&eight, at, 8);
        if (((eight & 0xF0F0F0F0F0F0F0F0) | (((eight + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0) >> 4)) !=
            0x3333333333333333)
            break;
        eight -= 0x3030303030303030;
        eight = eight * 10 + (eight >> 8);
        eight = ((eight & 0x000000FF000000FF) * 0x000F424000000064 +
                 ((eight >> 16) & 0x000000FF000000FF) * 0x0000271000000001) >>
                32;
        *number = *number * 100000000 + eight;
        at += 8;
    }
    for (; is_digit(*at); at++) *number = *number * 10 + (uint64_t)(*at - '0');
    return at;
}

static bool nearest(const struct plan *plan, uint64_t digits, int64_t power, double *value) {
    /* The float64 nearest to digits * 10**power; false if it is not decided here.
     * Small numbers are one exact operation (W. Clinger, How to read floating point numbers accurately, 1990), the others take the 128-bit
     * product of D. Lemire, Number parsing at a gigabyte per second, Software: Practice and Experience 51(8), 2021. */
    if (digits <= (uint64_t)1 << 53 && power >= -22 && power <= 22) {
        *value = power < 0 ? (double)digits / TENS[-power] : (double)digits * TENS[power];
        return true;
    }
    if (digits == 0) {
        *value = 0;
        return true;
    }
    if (power < plan->lowest || power > plan->highest) return false;
    int zeros = __builtin_clzll(digits);
    digits <<= zeros;
    const uint64_t *five = plan->fives + 2 * (power - plan->lowest);
    unsigned __int128 product = (unsigned __int128)digits * five[0];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1FF) == 0x1FF) {
        uint64_t more = (uint64_t)(((unsigned __int128)digits * five[1]) >> 64);
        low += more;
        if (more > low) high++;
    }
    if (low == UINT64_MAX && (power < -27 || power > 55)) return false;
    int top = (int)(high >> 63), spare = top + 9;
    uint64_t mantissa = high >> spare;
    int64_t exponent = ((217706 * power) >> 16) + 1086 + top - zeros;
    if (exponent <= 0 || exponent >= 2046) return false;
    if (low <= 1 && power >= -4 && power <= 23 && (mantissa & 3) == 1 && mantissa << spare == high)
        mantissa &= ~(uint64_t)1;
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >= (uint64_t)1 << 53) {
        mantissa = (uint64_t)1 << 52;
        exponent++;
    }
    uint64_t bits = (mantissa & ~((uint64_t)1 << 52)) | (uint64_t)exponent << 52;
    memcpy(value, &bits, sizeof bits);
    return true;
}

struct number {
    bool negative, whole; /* whole: written without point and exponent, and an int64 holds it */
    uint64_t digits;
    int64_t power;
};

static const uint8_t *number(const uint8_t *at, struct number *found) {
    /* A JSON number; behind it, or NULL if there is none, or none to be read here. */
    found->negative = *at == '-';
    at += found->negative;
    const uint8_t *begin = at;
    found->digits = 0;
    found->power = 0;
    at = digits(at, &found->digits);
    int64_t count = at - begin;
    if (count == 0 || (count > 1 && *begin == '0')) return NULL;
    found->whole = count <= MOST_WHOLE;
    if (*at == '.') {
        found->whole = false;
        begin = ++at;
        if (found->digits == 0) { /* zeros before the first digit that counts */
            while (*at == '0') at++;
            count = begin - at;
        }
        at = digits(at, &found->digits);
        if (at == begin) return NULL;
        found->power = begin - at;
        count += at - begin;
    }
    if (count > MOST_DIGITS) return NULL;
    if (*at == 'e' || *at == 'E') {
        found->whole = false;
        bool falling = *++at == '-';
        at += falling || *at == '+';
        begin = at;
        uint64_t exponent = 0;
        at = digits(at, &exponent);
        if (at == begin || at - begin > MOST_EXPONENT) return NULL;
        found->power += falling ? -(int64_t)exponent : (int64_t)exponent;
    }
    return at;
}

static const uint8_t *text_end(const uint8_t *at) {
    /* Where a text without escapes ends, or NULL. */
    for (; *at != '"'; at++)
        if (*at == '\\' || *at < ' ') return NULL;
    return at;
}

static const uint8_t *object(const struct plan *plan, const struct columns *columns, const uint8_t *text,
                             const uint8_t *at, int64_t row, int32_t *guess) {
    /* Read an object and those in it into a row; behind it, or NULL. `guess` [fields] says which field an object will probably name next. */
    const int64_t most = columns->most;
    int32_t parents[DEEPEST], parent = 0;
    int depth = 0;
    int64_t looks = 4 * plan->fields + 64;
    bool fresh = true;
    if (*at != '{') return NULL;
    at = skip(at + 1);
    columns->sent[row] = SENT;
    guess[0] = plan->first[0];
    for (;;) {
        if (*at == '}') {
            at = skip(at + 1);
            if (depth == 0) return at;
            parent = parents[--depth];
            fresh = false;
            continue;
        }
        if (!fresh) {
            if (*at != ',') return NULL;
            at = skip(at + 1);
        }
        if (*at != '"') return NULL;
        at++;
        const int32_t first = plan->first[parent], behind = first + plan->count[parent];
        int32_t field = guess[parent], left = plan->count[parent];
        size_t length = 0;
        for (; left > 0 && looks > 0; left--, looks--, field++) {
            if (field == behind) field = first;
            const uint8_t *name = plan->names + plan->name_from[field];
            length = (size_t)(plan->name_from[field + 1] - plan->name_from[field]);
            size_t same = 0;
            while (same < length && at[same] == name[same]) same++;
            if (same == length && at[same] == '"') break;
        }
        if (left <= 0 || looks <= 0) return NULL;
        uint8_t *sent = columns->sent + field * most + row;
        if (*sent != NOT_SENT) return NULL;
        guess[parent] = field + 1;
        at = skip(at + length + 1);
        if (*at != ':') return NULL;
        at = skip(at + 1);
        *sent = SENT;
        fresh = false;
        const int64_t cell = plan->slot[field] * most + row;
        struct number sign;
        if (*at == 'n') {
            if (memcmp(at, "null", 4) != 0) return NULL;
            *sent = NIL;
            at = skip(at + 4);
            continue;
        }
        switch (plan->kind[field]) {
        case REAL:
            at = number(at, &sign);
            if (at == NULL || !nearest(plan, sign.digits, sign.power, columns->reals + cell)) return NULL;
            if (sign.negative) columns->reals[cell] = -columns->reals[cell];
            break;
        case WHOLE:
            at = number(at, &sign);
            if (at == NULL || !sign.whole) return NULL;
            columns->wholes[cell] = sign.negative ? -(int64_t)sign.digits : (int64_t)sign.digits;
            break;
        case TEXT:
            if (*at != '"') return NULL;
            columns->begins[cell] = (int32_t)(at + 1 - text);
            at = text_end(at + 1);
            if (at == NULL) return NULL;
            columns->ends[cell] = (int32_t)(at - text);
            at++;
            break;
        case TRUTH:
            columns->truths[cell] = *at == 't';
            if (memcmp(at, "true", 4) == 0)
                at += 4;
            else if (memcmp(at, "false", 5) == 0)
                at += 5;
            else
                return NULL;
            break;
        case OBJECT:
            if (*at != '{' || depth == DEEPEST) return NULL;
            parents[depth++] = parent;
            parent = field;
            guess[parent] = plan->first[parent];
            at++;
            fresh = true;
            break;
        default:
            return NULL;
        }
        at = skip(at);
    }
}

int64_t read_messages(const struct plan *plan, const struct columns *columns, const uint8_t *text, int64_t size,
                      int32_t listed, int64_t lines, int64_t *rows, uint8_t *odd, int32_t *guess) {
    /* Lines with one message each, an object or a list of objects; the number of rows, or -1 if text and lines do not end together.
     * Behind `size` bytes, the last of which ends a line, 8 zeros follow. `rows` [lines] gets the row behind each line's; `odd` [lines] says which
     * are not read: such a line has one row in which nothing was sent if it should be an object, none if a list. */
    const uint8_t *at = text, *end = text + size;
    int64_t row = 0;
    for (int64_t line = 0; line < lines; line++) {
        if (at >= end) return -1;
        const uint8_t *begin = at;
        int64_t first_row = row;
        bool good = false, going = true;
        at = skip(at);
        if (listed) {
            going = *at == '[';
            at = going ? skip(at + 1) : at;
        }
        while (going && row < columns->most) {
            at = object(plan, columns, text, at, row++, guess);
            going = false;
            if (at == NULL) break;
            if (listed) {
                going = *at == ',';
                bool closed = *at == ']';
                if (going || closed) at = skip(at + 1);
                if (!closed) continue;
            }
            good = *at == '\n';
        }
        if (!good) {
            for (int64_t field = 0; field < plan->fields; field++)
                memset(columns->sent + field * columns->most + first_row, NOT_SENT, (size_t)(row - first_row));
            row = listed ? first_row : first_row + 1;
            at = memchr(begin, '\n', (size_t)(end - begin));
        }
        at++;
        odd[line] = !good;
        rows[line] = row;
    }
    return at == end ? row : -1;
}

void gather_texts(const uint8_t *text, const int32_t *begins, const int32_t *ends, const uint8_t *sent, int64_t rows,
                  int32_t *offsets, uint8_t *out) {
    /* A column's texts behind each other in `out`, with their `offsets` [rows + 1]. */
    int32_t at = 0;
    for (int64_t row = 0; row < rows; row++) {
        offsets[row] = at;
        if (sent[row] != SENT) continue;
        int32_t length = ends[row] - begins[row];
        memcpy(out + at, text + begins[row], (size_t)length);
        at += length;
    }
    offsets[rows] = at;
}
