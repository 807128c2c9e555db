/// Our own CUDA kernels: their sources, who compiles, keeps and starts them. What goes to which
/// kernel is decided in `dev.sluice.operations`. Everything is called by the foreign function
/// interface: NVRTC, the CUDA driver.
@NullMarked
package dev.sluice.cuda;

import org.jspecify.annotations.NullMarked;
