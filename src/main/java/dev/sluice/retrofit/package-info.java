/// A trained model that is given gates: what training changed of it, what rounding it costs, and
/// the form in which others load it.
package dev.sluice.retrofit;
