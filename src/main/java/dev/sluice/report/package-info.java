/// What people read: tables for a terminal, a report as one HTML file, the line that shows how far
/// a run has come. Everything here returns strings or writes the file it is told to; nothing
/// prints.
///
/// A [Table] is written down once and laid out twice, by [TextTable] and by [HtmlReport].
package dev.sluice.report;
