/* OpenBLAS reads its environment when the library loads, before main: what it should be told must be there already. */
#ifndef DAEMON_BLAS_START_H
#define DAEMON_BLAS_START_H

/* Runs the program once more, in the same process (same pid, passed sockets stay open), with what OpenBLAS should have
 * been told: one thread, and the kernels for this CPU where it did not recognise it. Never overrides what the operator
 * set. Returns when nothing is to be changed, or when it could not be. First thing in main. Thread: main. */
void blas_start(char **argv);

#endif
