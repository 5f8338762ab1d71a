// Who sees what. Query i stands at position c + i and sees position j iff j <= c + i and j > c + i - window; positions below c are
// cached rows, the others current ones.
//
//   t, c     queries and current keys, cached keys       n, m    query heads, key/value heads
//   window   at most c + t                               scale   1/sqrt(HEAD)

struct Sizes {
    u32 t, c, n, m, window;
    float scale;
};

// Of a row in shared memory.
constexpr int COLUMNS = HEAD <= 96 ? (HEAD + 15) / 16 * 16 : 128;
using Rows = Tile<ELEMENT, COLUMNS>;

// e^x, as exact as the type wants it.
__device__ __forceinline__ float exp_of(float x) { return sizeof(ELEMENT) == 2 ? exp2_fast(x * 1.4426950408889634f) : expf(x); }

// e^(scale s - x).
__device__ __forceinline__ float exp_from(float s, float scale, float x) { return exp_of(fmaf(s, scale, -x)); }

// Results of wide heads are shared among PARTS blocks, for want of registers: each makes all scores, and WIDTH columns of results.
constexpr int WIDTH = COLUMNS / PARTS;
using Result = float[COUNT][WIDTH / 8][4];
using Scores = float[COUNT][STEP / 8][4];

// y += x z for STEP rows z of a tile, from `row` on; of z the columns from `column` on.
__device__ __forceinline__ void add(Result& y, const Scores& x, u32 tile, int row, int column) {
    add_sums<ELEMENT, COLUMNS, COUNT, STEP, WIDTH>(y, x, tile, row, column);
}

__device__ __forceinline__ void store(ELEMENT* to, u32 heads, const Result& y, int column, float scale, int count) {
    store_rows<ELEMENT, WIDTH, COUNT>(to + column, heads * HEAD, y, scale, count, HEAD - column);
}

// Row `i` of a head of an array [.., heads, HEAD].
template <typename T> __device__ __forceinline__ T* row_of(T* x, u32 i, u32 heads, u32 head) { return x + (u64(i) * heads + head) * HEAD; }

// A run of keys: rows from `first` up to `end` of the cached or of the current ones.
struct Keys {
    bool cached;
    int first, end;
};

// The keys that queries `first` to `last` see, in runs of at most SIZE of one kind, in the order of their positions.
template <int SIZE> struct KeyTiles {
    int c, cached_from, cached_count, from, end, count;

    __device__ __forceinline__ KeyTiles(const Sizes& s, int first, int last) {
        c = s.c;
        int position = max(c + first + 1 - int(s.window), 0);
        cached_from = min(position, c);
        cached_count = (c - cached_from + SIZE - 1) / SIZE;
        from = max(position - c, 0);
        end = last + 1;
        count = cached_count + (end - from + SIZE - 1) / SIZE;
    }

    __device__ __forceinline__ Keys operator[](int i) const {
        if (i < cached_count) return {true, cached_from + i * SIZE, c};
        return {false, from + (i - cached_count) * SIZE, end};
    }
};

// The queries that see any of the keys at positions `first` to `last`, in runs of SIZE.
template <int SIZE> struct QueryTiles {
    int first, count;

    __device__ __forceinline__ QueryTiles(const Sizes& s, int first_position, int last_position) {
        first = max(first_position - int(s.c), 0);
        int end = min(last_position + int(s.window) - int(s.c), int(s.t));
        count = max(end - first + SIZE - 1, 0) / SIZE;
    }
};

// True unless each of the queries `first` to `last` sees all positions `low` to `high`.
__device__ __forceinline__ bool any_hidden(const Sizes& s, int first, int last, int low, int high) {
    return high > int(s.c) + first || low <= int(s.c) + last - int(s.window);
}

// The same for keys of a tile of `size` rows, all of which must be there.
__device__ __forceinline__ bool any_hidden(const Sizes& s, const Keys& keys, int size, int first, int last) {
    int low = keys.first + (keys.cached ? 0 : int(s.c));
    return keys.first + size > keys.end || any_hidden(s, first, last, low, low + size - 1);
}

// Scores outside a row's columns, of which `bounds` tells the first and the last, become -infinity.
template <int R, int N, typename Bounds> __device__ __forceinline__ void hide(float (&x)[R][N / 8][4], Bounds bounds) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            int low, high;
            bounds(16 * i + 8 * half + lane / 4, low, high);
#pragma unroll
            for (int j = 0; j < N / 8; ++j) {
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    int at = 8 * j + lane % 4 * 2 + e;
                    if (at < low || at > high) x[i][j][2 * half + e] = -infinity();
                }
            }
        }
    }
}

// Rows are queries from `query` on, columns keys from `key` on of `keys`.
template <int R, int N> __device__ __forceinline__ void hide_keys(float (&x)[R][N / 8][4], const Sizes& s, const Keys& keys, int query, int key) {
    hide<R, N>(x, [&](int row, int& low, int& high) {
        int position = int(s.c) + query + row - (keys.cached ? 0 : int(s.c));
        low = position - int(s.window) + 1 - key, high = min(position, keys.end - 1) - key;
    });
}

// Rows are keys from `position` on, columns queries from `query` on.
template <int R, int N> __device__ __forceinline__ void hide_queries(float (&x)[R][N / 8][4], const Sizes& s, int position, int query) {
    hide<R, N>(x, [&](int row, int& low, int& high) {
        int at = position + row - int(s.c);
        low = at - query, high = min(at + int(s.window), int(s.t)) - 1 - query;
    });
}

// Query i sees one key alone, its own: the gradients of its score are zero, for what is computed is the rounding error of dP - D.
__device__ __forceinline__ bool is_alone(const Sizes& s, int i) { return s.window == 1 || s.c + i == 0; }
