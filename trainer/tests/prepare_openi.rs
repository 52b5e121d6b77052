//! `data prepare openi`: invented reports in both published layouts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use raygen_manifest::{Labels, Manifest, View};
use raygen_trainer::prepare::openi::{self, OpeniOptions, OpeniReports};
use raygen_trainer::prepare::{Reason, Report, Target, TextOptions, ViewKind, Views};

const REPORTS: &str = "\
uid,MeSH,Problems,image,indication,comparison,findings,impression
1,normal,normal,Chest,Cough,None,The heart is small.,\"No disease, really.\"
2,Cardiomegaly/mild;Opacity/lung/base/left,Cardiomegaly;Opacity,Chest,,,,Big heart.
3,Osteophyte/spine,Osteophyte,Chest,,,Bony spurs.,
5,,Pneumothorax,Chest,,,,Air.
";
const PROJECTIONS: &str = "\
uid,filename,projection
1,1_IM-0001-4001.dcm.png,Frontal
1,1_IM-0001-3001.dcm.png,Lateral
2,2_IM-0002-1001.dcm.png,Frontal
3,3_IM-0003-1001.dcm.png,Frontal
4,4_IM-0004-1001.dcm.png,Frontal
5,5_IM-0005-1001.dcm.png,Frontal
";

struct Archive {
    folder: tempfile::TempDir,
}

impl Archive {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Self { folder };
        fs::write(archive.path("indiana_reports.csv"), REPORTS).unwrap();
        fs::write(archive.path("indiana_projections.csv"), PROJECTIONS).unwrap();
        fs::create_dir(archive.path("images")).unwrap();
        // Both spellings of a name; the picture of report 5 is missing.
        for name in
            ["CXR1_1_IM-0001-4001.png", "1_IM-0001-3001.dcm.png", "2_IM-0002-1001.dcm.png", "CXR3_IM-0003-1001.png"]
        {
            fs::write(archive.path("images").join(name), b"").unwrap();
        }
        archive
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, reports: OpeniReports) -> OpeniOptions {
        OpeniOptions { reports, images: self.path("images"), views: Views::frontal(), text: TextOptions::default() }
    }

    fn csv(&self) -> OpeniReports {
        OpeniReports::Csv {
            reports: self.path("indiana_reports.csv"),
            projections: self.path("indiana_projections.csv"),
        }
    }

    fn prepare(&self, options: &OpeniOptions) -> (Report, Manifest) {
        let target = Target { force: true, ..Target::new(self.path("manifest.csv")) };
        let report = openi::prepare(options, &target).unwrap_or_else(|error| panic!("{error}"));
        let manifest = Manifest::read(&target.out).unwrap();
        manifest.check_files().unwrap();
        (report, manifest)
    }
}

fn count(report: &Report, reason: Reason) -> usize {
    report.dropped.iter().find(|dropped| dropped.reason == reason).map_or(0, |dropped| dropped.count)
}

/// An invented report in the layout of the published XML files.
fn xml(uid: &str, terms: &[&str], impression: &str, pictures: &[&str]) -> String {
    let terms: String = terms.iter().map(|term| format!("<major>{term}</major>\n")).collect();
    let pictures: String = pictures
        .iter()
        .map(|id| format!("<parentImage id=\"{id}\"><caption>PA and Lateral</caption></parentImage>\n"))
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<eCitation>\n<uId id=\"CXR{uid}\"/>\n<MedlineCitation><Article><Abstract>\n\
         <AbstractText Label=\"FINDINGS\"/>\n<AbstractText Label=\"IMPRESSION\">{impression}</AbstractText>\n\
         </Abstract></Article></MedlineCitation>\n<MeSH>\n{terms}<automatic>pneumonia</automatic></MeSH>\n{pictures}</eCitation>\n"
    )
}

fn xml_reports() -> Vec<(&'static str, String)> {
    vec![
        ("10.xml", xml("10", &["normal"], "Fine.", &[])),
        ("2.xml", xml("2", &["Cardiomegaly/mild", "Opacity/lung"], "Heart &gt; chest.", &["CXR2_IM-0002-1001"])),
        ("1.xml", xml("1", &["normal"], "No\n   disease.", &["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"])),
    ]
}

fn tgz(path: &Path, reports: &[(&str, String)]) {
    let mut builder = tar::Builder::new(GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast()));
    for (name, text) in reports {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("ecgen-radiology/{name}"), text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

#[test]
fn the_tables_become_frontal_films_with_classes() {
    let archive = Archive::new();
    let (report, manifest) = archive.prepare(&archive.options(archive.csv()));
    let ids: Vec<&str> = manifest.films.iter().map(|film| film.id.as_str()).collect();
    assert_eq!(ids, ["images/CXR1_1_IM-0001-4001.png", "images/2_IM-0002-1001.dcm.png"]);
    let [first, second] = &manifest.films[..] else { panic!("{ids:?}") };
    assert_eq!(first.impression.as_deref(), Some("No disease, really."));
    assert_eq!(first.findings.as_deref(), Some("The heart is small."));
    assert_eq!((first.patient.as_deref(), first.view), (Some("openi1"), Some(View::Frontal)));
    assert_eq!(first.labels, Labels::Negative);
    assert_eq!(second.labels, Labels::Positive(vec!["Cardiomegaly".into(), "Lung Opacity".into()]));
    assert_eq!(second.licence.as_deref(), Some("CC-BY-NC-ND-4.0"));
    let reasons = [Reason::OtherView, Reason::NoImpression, Reason::MissingReport, Reason::MissingImage];
    assert_eq!(reasons.map(|reason| count(&report, reason)), [1, 1, 1, 1]);
    assert_eq!(report.dropped_count, 4);
}

#[test]
fn lateral_films_and_findings_are_taken_when_asked_for() {
    let archive = Archive::new();
    let mut options = archive.options(archive.csv());
    options.views = Views(vec![ViewKind::Frontal, ViewKind::Lateral]);
    options.text.findings_as_fallback = true;
    let (report, manifest) = archive.prepare(&options);
    assert_eq!(manifest.films.len(), 4);
    assert_eq!(report.views["lateral"].all(), 1);
    // Both films of a report are one patient's, so they are in one split.
    assert_eq!(manifest.films[0].split, manifest.films[1].split);
    assert_eq!(manifest.films[3].impression.as_deref(), Some("Bony spurs."));
    assert_eq!(manifest.films[3].labels, Labels::Unlabelled);
}

#[test]
fn the_xml_reports_are_the_same_from_a_folder_and_from_the_archive() {
    let archive = Archive::new();
    let folder = archive.path("ecgen-radiology");
    fs::create_dir(&folder).unwrap();
    for (name, text) in xml_reports() {
        fs::write(folder.join(name), text).unwrap();
    }
    tgz(&archive.path("reports.tgz"), &xml_reports());
    let of = |reports, projections| archive.prepare(&archive.options(OpeniReports::Xml { reports, projections }));
    let (report, from_folder) = of(folder, None);
    let (_, from_archive) = of(archive.path("reports.tgz"), None);
    assert_eq!(from_folder.films, from_archive.films);
    // By number, not by name; without projections a lateral film cannot be told.
    let impressions: Vec<_> = from_folder.films.iter().map(|film| film.impression.clone().unwrap()).collect();
    assert_eq!(impressions, ["No disease.", "No disease.", "Heart > chest."]);
    assert_eq!(from_folder.films[2].labels.names(), ["Cardiomegaly", "Lung Opacity"]);
    assert_eq!(from_folder.films[0].view, None);
    assert!(report.notes.iter().any(|note| note.contains("lateral")), "{:?}", report.notes);
    let (report, with_views) = of(archive.path("reports.tgz"), Some(archive.path("indiana_projections.csv")));
    assert_eq!(with_views.films.len(), 2);
    assert_eq!(count(&report, Reason::OtherView), 1);
}

#[test]
fn a_damaged_report_or_row_is_named() {
    let archive = Archive::new();
    let refused = |reports| {
        let target = Target::new(archive.path("none.csv"));
        openi::prepare(&archive.options(reports), &target).unwrap_err().to_string()
    };
    let mut reports = xml_reports();
    reports[1].1 = reports[1].1.replace("</eCitation>", "</wrong>");
    tgz(&archive.path("bad.tgz"), &reports);
    let problem = refused(OpeniReports::Xml { reports: archive.path("bad.tgz"), projections: None });
    assert!(problem.contains("bad.tgz: ecgen-radiology/2.xml: line "), "{problem}");

    fs::write(archive.path("indiana_projections.csv"), PROJECTIONS.replace("Lateral", "Sideways")).unwrap();
    let problem = refused(archive.csv());
    assert!(problem.contains("indiana_projections.csv, line 3, column \"projection\": \"Sideways\""), "{problem}");
    fs::write(archive.path("indiana_reports.csv"), REPORTS.replace("uid,MeSH", "id,MeSH")).unwrap();
    let problem = refused(archive.csv());
    assert!(problem.contains("indiana_reports.csv, line 1: there is no column \"uid\""), "{problem}");
}
