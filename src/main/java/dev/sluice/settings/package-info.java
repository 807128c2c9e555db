/// Settings that are declared once, as components of records: name, first value, bounds and help
/// text. Files, flags and their messages follow from the declaration.
package dev.sluice.settings;
