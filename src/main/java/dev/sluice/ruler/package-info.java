/// RULER (arXiv 2404.06654): its prompts, made or read, and its scores, as NVIDIA's programs have
/// them and as their port in lm-evaluation-harness does.
@NullMarked
package dev.sluice.ruler;

import org.jspecify.annotations.NullMarked;
