/* Stands for catseye in tests of the deploy, where the real one would only make them slow. VERSION is a string; FAILS names the
   subcommand that ends with an error. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (strcmp(what, FAILS) == 0) {
        fprintf(stderr, "the stand-in was made to fail at %s\n", what);
        return 1;
    }
    if (strcmp(what, "--version") == 0) puts("catseye " VERSION);
    if (strcmp(what, "run") == 0) for (;;) pause();
    return strcmp(what, "doctor") == 0;
}
