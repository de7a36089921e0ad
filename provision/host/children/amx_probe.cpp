// Does this compiler keep the whole AMX tile configuration? It prints `right`, `wrong` or `denied`, or dies.
//
// GCC 12 declares that `_tile_loadconfig` reads 8 bytes, not 64 (amxtileintrin.h), and drops the rest of the stores. Whether it
// does so depends on the code around; a function of its own that fills the structure in a loop loses them at -O1 to -O3.
// The same happens to ggml-cpu/amx/mmq.cpp (ggml 0.25.3) at -O3, and the process dies at the first quantized product.
#include <immintrin.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};

static uint8_t a[16][64];
static int8_t b[16][64];
static int32_t c[16][16];

static int say(const char * word, unsigned length) {
    return write(1, word, length) == (ssize_t) length ? 0 : 1;
}

// A stack full of zeros could pass for a valid configuration; this makes lost stores show.
__attribute__((noinline)) static void soil_the_stack() {
    volatile char dirt[1024];
    for (int i = 0; i < 1024; i++) dirt[i] = 0x55;
}

__attribute__((noinline)) static void configure_tiles() {
    alignas(64) tile_config config = {};
    config.palette = 1;
    for (int i = 0; i < 3; i++) {
        config.rows[i] = 16;
        config.colsb[i] = 64;
    }
#ifdef WITH_BARRIER
    __asm__ volatile("" ::"m"(config));
#endif
    _tile_loadconfig(&config);
}

int main() {
    const int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    if (syscall(SYS_arch_prctl, request_permission, tile_data)) return say("denied\n", 7);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 64; j++) {
            a[i][j] = uint8_t(i * 7 + j);
            b[i][j] = int8_t(i * 5 - j);
        }
    soil_the_stack();
    configure_tiles();
    _tile_zero(0);
    _tile_loadd(1, a, 64);
    _tile_loadd(2, b, 64);
    _tile_dpbusd(0, 1, 2);
    _tile_stored(0, c, 64);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            int32_t want = 0;
            for (int k = 0; k < 64; k++) want += int32_t(a[m][k]) * b[k / 4][n * 4 + k % 4];
            if (c[m][n] != want) return say("wrong\n", 6);
        }
    return say("right\n", 6);
}
