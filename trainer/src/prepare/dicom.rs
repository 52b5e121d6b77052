//! A folder of DICOM files: each film becomes a PNG under a name that says nothing of the patient.
//!
//! Texts come from an optional table with the columns `SOPInstanceUID` or `path` (from the folder), `impression`, and where
//! they are known `findings` and `labels` (separated by `;`). Identifiers are hashed with a salt that the manifest does not
//! hold: who does not know it cannot tell which patient a film is of, not even by trying all numbers.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use raygen_manifest::View;
use raygen_model::image::{self, DecodeLimits, DicomAttributes, ImageError, ImageFormat, Picture};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dicom_texts::{Found, TextTable};
use super::files::walk;
use super::output::Collector;
use super::view::view_of;
use super::{Entry, PrepareError, Reason, Report, Target, TextOptions, Views};

/// The preamble and the letters that tell a DICOM file.
const HEAD: u64 = 132;
/// Films that are decoded at a time.
const CHUNK: usize = 32;
/// These are the user's own files, so larger ones are read than from strangers.
const LIMITS: DecodeLimits = DecodeLimits { max_bytes: 512 << 20, max_side: 16_384, max_pixels: 64 << 20 };

/// What becomes of identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// They are hashed with this salt.
    Hashed(String),
    /// They stay as they are. The manifest then holds Patient IDs.
    Kept,
}

/// Bits of the PNG files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bits {
    /// 8.
    #[default]
    Eight,
    /// 16.
    Sixteen,
}

/// What is kept of a folder of DICOM files.
#[derive(Debug, Clone)]
pub struct DicomOptions {
    /// The folder; those below it are looked into.
    pub root: PathBuf,
    /// Where the PNG files go.
    pub images_out: PathBuf,
    /// Pixels of the shorter side of larger films; all pixels stay where there is none.
    pub size: Option<usize>,
    /// Bits of the PNG files.
    pub bits: Bits,
    /// Identifiers.
    pub ids: Ids,
    /// A table of texts.
    pub texts: Option<PathBuf>,
    /// Views that are kept; all where there are none. A film whose view is not known is kept.
    pub views: Option<Views>,
    /// Whether films are kept whose files say that words are burned into the picture: those may tell who the patient is.
    pub keep_burned_in: bool,
    /// What is done to texts; without a table films are kept without.
    pub text: TextOptions,
    /// What the manifest's `source` says.
    pub source: String,
    /// What the manifest's `licence` says.
    pub licence: String,
}

/// Makes a manifest and PNG files of a folder of DICOM files, in the order of their paths.
///
/// # Errors
/// The folder or the table cannot be read, nothing is kept, or a file cannot be written. A file that is no film is counted
/// and named instead.
pub fn prepare(options: &DicomOptions, target: &Target) -> Result<Report, PrepareError> {
    if options.ids == Ids::Hashed(String::new()) {
        let problem = "it is empty, and without a salt the hash of a number is found by trying all numbers";
        return Err(PrepareError::option("--salt", problem));
    }
    if options.size == Some(0) {
        return Err(PrepareError::option("--size", "give the pixels of the shorter side"));
    }
    let mut out = Collector::open(target)?;
    let root = options.root.canonicalize().map_err(PrepareError::read(&options.root))?;
    let texts = options.texts.as_deref().map(TextTable::read).transpose()?;
    let files = walk(&root)?;
    fs::create_dir_all(&options.images_out).map_err(PrepareError::write(&options.images_out))?;
    let images_out = options.images_out.canonicalize().map_err(PrepareError::read(&options.images_out))?;
    let reader = Reader { options, root: &root, texts: texts.as_ref() };
    let mut without_patient = 0usize;
    for chunk in files.chunks(CHUNK) {
        if out.is_full() {
            break;
        }
        let read: Vec<Read> = chunk.par_iter().map(|file| reader.read(file)).collect();
        for read in read {
            let film = match read {
                _ if out.is_full() => break,
                Read::Other => continue,
                Read::Dropped(reason, name) => {
                    out.drop(reason, name);
                    continue;
                }
                Read::Film(film) => film,
            };
            let image = images_out.join(format!("{}.png", film.name));
            // Before its picture is written: the row stays the first film's, and so must the picture.
            if out.has(&image) {
                out.drop(Reason::Duplicate, format!("{}.png", film.name));
                continue;
            }
            write_picture(&image, &film.png, target.force)?;
            without_patient += usize::from(film.patient.is_none());
            let patient = film.patient.as_deref().unwrap_or(film.study.as_bytes());
            out.keep(Entry {
                image,
                patient: options.ids.write(patient),
                split: None,
                view: film.view,
                impression: film.texts.impression,
                findings: film.texts.findings,
                labels: film.texts.labels,
                uncertain: Vec::new(),
                text_origin: film.texts.text_origin,
                source: options.source.clone(),
                licence: options.licence.clone(),
            })?;
        }
    }
    if without_patient > 0 {
        out.note(format!(
            "{without_patient} films have no Patient ID: their study, or else the film, is taken for the patient"
        ));
    }
    out.finish()
}

/// A file that was looked at.
enum Read {
    /// It is no DICOM file, and does not say that it is one.
    Other,
    /// It is left out; with its name and what is wrong.
    Dropped(Reason, String),
    Film(Box<Film>),
}

struct Film {
    /// Of the PNG file.
    name: String,
    /// Bytes of the Patient ID, in whatever character set.
    patient: Option<Vec<u8>>,
    study: String,
    view: Option<View>,
    texts: Found,
    png: Vec<u8>,
}

struct Reader<'a> {
    options: &'a DicomOptions,
    root: &'a Path,
    texts: Option<&'a TextTable>,
}

impl Reader<'_> {
    fn read(&self, file: &Path) -> Read {
        let path = file.strip_prefix(self.root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        let unreadable = |error: io::Error| Read::Dropped(Reason::Undecodable, format!("{path} ({error})"));
        let (head, size) = match head(file) {
            Ok(found) => found,
            Err(error) => return unreadable(error),
        };
        if image::detect(&head) != Some(ImageFormat::Dicom) {
            let says_so = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("dcm"));
            let problem = || format!("{path} (it does not start as DICOM does)");
            return if says_so { Read::Dropped(Reason::Undecodable, problem()) } else { Read::Other };
        }
        if size > LIMITS.max_bytes as u64 {
            let problem = format!("{path} (it has {size} bytes, at most {} are read)", LIMITS.max_bytes);
            return Read::Dropped(Reason::Undecodable, problem);
        }
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => return unreadable(error),
        };
        match self.film(&path, &bytes) {
            Ok(Ok(film)) => Read::Film(Box::new(film)),
            Ok(Err(reason)) => Read::Dropped(reason, path),
            Err(error @ ImageError::DicomMultiFrame { .. }) => {
                Read::Dropped(Reason::MultiFrame, format!("{path} ({error})"))
            }
            Err(error) => Read::Dropped(Reason::Undecodable, format!("{path} ({error})")),
        }
    }

    /// The film, or why it is not wanted.
    fn film(&self, path: &str, bytes: &[u8]) -> Result<Result<Film, Reason>, ImageError> {
        let DicomAttributes { patient_id, study_instance_uid, sop_instance_uid, view_position, burned_in_annotation } =
            image::dicom_attributes(bytes)?;
        let burned_in = burned_in_annotation.is_some_and(|said| said.eq_ignore_ascii_case("yes"));
        if burned_in && !self.options.keep_burned_in {
            return Ok(Err(Reason::BurnedIn));
        }
        let view = view_position.as_deref().and_then(view_of);
        if let (Some(views), Some(view)) = (&self.options.views, view)
            && !views.takes(view)
        {
            return Ok(Err(Reason::OtherView));
        }
        let uid = sop_instance_uid.as_deref();
        let texts = match self.texts {
            None => Found::default(),
            Some(table) => match table.find(uid, path, &self.options.text) {
                Ok(found) => found,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        let picture = image::decode(bytes, Some(ImageFormat::Dicom), None, &LIMITS)?;
        let picture = match self.options.size {
            Some(size) => image::shrink(&picture, size)?,
            None => picture,
        };
        let unique = uid.unwrap_or(path);
        Ok(Ok(Film {
            name: self.options.ids.file_name(unique),
            patient: patient_id,
            study: study_instance_uid.unwrap_or_else(|| unique.to_owned()),
            view,
            texts,
            png: encode(&picture, self.options.bits)
                .map_err(|error| ImageError::Encode { format: ImageFormat::Png, message: error.to_string() })?,
        }))
    }
}

/// The first bytes of a file, which tell what it is, and its size: archives hold much that is no film.
fn head(file: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(file)?;
    let size = file.metadata()?.len();
    let mut head = Vec::with_capacity(HEAD as usize);
    file.take(HEAD).read_to_end(&mut head)?;
    Ok((head, size))
}

impl Ids {
    /// A patient as the manifest writes it.
    fn write(&self, patient: &[u8]) -> String {
        match self {
            Self::Hashed(salt) => format!("p{}", hash(salt, "patient", patient, 8)),
            // What is not UTF-8 is read as Latin-1, which keeps different patients different.
            Self::Kept => std::str::from_utf8(patient)
                .map_or_else(|_| patient.iter().map(|byte| char::from(*byte)).collect(), str::to_owned),
        }
    }

    /// The name of a PNG file; never the identifier, which may not be fit for a name.
    fn file_name(&self, unique: &str) -> String {
        let salt = if let Self::Hashed(salt) = self { salt } else { "" };
        hash(salt, "film", unique.as_bytes(), 16)
    }
}

fn hash(salt: &str, purpose: &str, text: &[u8], bytes: usize) -> String {
    let mut digest = Sha256::new();
    for part in [salt.as_bytes(), purpose.as_bytes(), text] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// A PNG without a word of ours: the film is real, and says nothing of the patient.
fn encode(picture: &Picture, bits: Bits) -> Result<Vec<u8>, png::EncodingError> {
    let side = |length: usize| u32::try_from(length).map_err(|error| io::Error::other(error.to_string()));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(picture.width)?, side(picture.height)?);
    encoder.set_color(png::ColorType::Grayscale);
    let (depth, samples) = match bits {
        Bits::Eight => (png::BitDepth::Eight, picture.to_u8()),
        Bits::Sixteen => (png::BitDepth::Sixteen, picture.to_u16().into_iter().flat_map(u16::to_be_bytes).collect()),
    };
    encoder.set_depth(depth);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&samples)?;
    writer.finish()?;
    Ok(bytes)
}

/// Leaves a picture of an earlier run alone: its manifest still names it.
fn write_picture(path: &Path, bytes: &[u8], force: bool) -> Result<(), PrepareError> {
    if !force && path.symlink_metadata().is_ok() {
        let same = fs::read(path).map_err(PrepareError::read(path))? == bytes;
        return if same { Ok(()) } else { Err(PrepareError::Taken(path.to_owned())) };
    }
    write_whole(path, bytes).map_err(PrepareError::write(path))
}

/// Under a temporary name first, so that no half picture is ever found.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("partial");
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
