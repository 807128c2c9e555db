package dev.sluice.report;

/// A figure of an [HtmlReport]. Every figure has a title and a caption that says in words what to
/// see, which is also what a screen reader says. Values that are not finite are left blank.
///
/// An arm that has the same name in several figures has the same colour in all of them.
public sealed interface Figure permits LineChart, BarChart, Histograms, HeatMaps {
  String title();

  String caption();
}
