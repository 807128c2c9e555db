/// One narrow tensor over libtorch, with lexical lifetimes. The only package that imports
/// `org.bytedeco`.
package dev.sluice.tensor;
