/// Hot loops over memory. [dev.sluice.kernel.Kernels] says what each computes,
/// [dev.sluice.kernel.ScalarKernels] is the definition, [dev.sluice.kernel.VectorKernels] is the
/// fast one, and [dev.sluice.kernel.MachineKernels] has some of the same bits in machine code. The
/// only package that uses the Vector API.
///
/// Legend: `r` counts rows, `j` the elements of a row; ranges `from … to` are half open, so that
/// callers can split work among threads. Results do not depend on the split, but for sums over what
/// is split ([dev.sluice.kernel.Kernels#squareSum], gradients of weights): callers cut these at
/// fixed places.
package dev.sluice.kernel;
