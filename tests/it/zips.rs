//! A writer of zip archives that can lie in every field. By default it writes what torch writes: stored members with
//! a data descriptor, padding in an extra field so that data begins at 64, checksums.

/// One member; `local` and `central` headers are the same unless changed.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    /// As stored.
    pub(crate) data: Vec<u8>,
    /// Stray bytes before the local header.
    pub(crate) gap: Vec<u8>,
    pub(crate) local: Header,
    pub(crate) central: Header,
    pub(crate) descriptor: Descriptor,
    /// Where the directory says that the local header is; its true place unless set.
    pub(crate) offset: Option<u32>,
    /// Left out of the directory.
    pub(crate) hidden: bool,
    pub(crate) comment: Vec<u8>,
    pub(crate) external: u32,
    pub(crate) made_by: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// Another name than the member's.
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) stored: u32,
    pub(crate) size: u32,
    pub(crate) extra: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descriptor {
    Absent,
    /// 16 bytes.
    Narrow,
    /// 24 bytes.
    Wide,
    /// 12 bytes, without a signature.
    Unsigned,
    /// 16 bytes that state this checksum and size.
    Lying(u32, u32),
}

impl Entry {
    /// As torch writes a member.
    pub(crate) fn torch(name: &str, data: &[u8]) -> Self {
        let crc = crc32(data);
        let n = data.len() as u32;
        let (flags, descriptor) =
            if n == 0 { (0x0800, Descriptor::Absent) } else { (0x0808, Descriptor::Narrow) };
        let header = Header { name: None, flags, method: 0, crc, stored: n, size: n, extra: Vec::new() };
        let (crc, stored, size) = if n == 0 { (crc, 0, 0) } else { (0, 0, 0) };
        Self {
            name: name.into(),
            data: data.to_vec(),
            gap: Vec::new(),
            local: Header { crc, stored, size, ..header.clone() },
            central: header,
            descriptor,
            offset: None,
            hidden: false,
            comment: Vec::new(),
            external: 0,
            made_by: 0,
        }
    }

    /// Stored, with everything in the headers and no descriptor.
    pub(crate) fn plain(name: &str, data: &[u8]) -> Self {
        Self::torch(name, data).both(|header| header.flags = 0x0800).without_descriptor()
    }

    pub(crate) fn deflated(name: &str, data: &[u8]) -> Self {
        use std::io::Write as _;
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        let stored = encoder.finish().unwrap();
        let n = stored.len() as u32;
        let mut entry = Self::plain(name, data).both(|header| (header.method, header.stored) = (8, n));
        entry.data = stored;
        entry
    }

    /// Changes both headers.
    pub(crate) fn both(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    pub(crate) fn local(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.local);
        self
    }

    pub(crate) fn central(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.central);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn without_descriptor(mut self) -> Self {
        self.descriptor = Descriptor::Absent;
        let Header { crc, stored, size, .. } = self.central;
        self.local(|header| (header.crc, header.stored, header.size) = (crc, stored, size))
    }
}

/// An archive and the fields of its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zip {
    pub(crate) prefix: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    /// Stray bytes before the directory, within it after its entries, and behind it.
    pub(crate) before_directory: Vec<u8>,
    pub(crate) in_directory: Vec<u8>,
    pub(crate) after_directory: Vec<u8>,
    pub(crate) zip64: Zip64,
    pub(crate) comment: Vec<u8>,
    pub(crate) trailing: Vec<u8>,
    /// Fields of the end record where they lie.
    pub(crate) count: Option<u16>,
    pub(crate) directory_size: Option<u32>,
    pub(crate) directory_start: Option<u32>,
    pub(crate) disk: u16,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Zip64 {
    #[default]
    Absent,
    /// With its numbers, and all ones in the end record.
    Honest,
    /// With its numbers, and the same in the end record.
    Redundant,
    /// With this count of members, and the true one in the end record.
    Count(u64),
}

pub(crate) fn crc32(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

fn words(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
}

fn longs(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
}

fn quads(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
}

impl Zip {
    pub(crate) fn of(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.prefix.clone();
        let places: Vec<u32> = self.entries.iter().map(|entry| local(&mut out, entry)).collect();
        out.extend(&self.before_directory);
        let start = out.len();
        for (entry, place) in self.entries.iter().zip(places).filter(|(entry, _)| !entry.hidden) {
            central(&mut out, entry, place);
        }
        out.extend(&self.in_directory);
        let size = out.len() - start;
        out.extend(&self.after_directory);
        let count = self.entries.iter().filter(|entry| !entry.hidden).count();
        let stated = match self.zip64 {
            Zip64::Count(n) => n,
            _ => count as u64,
        };
        if self.zip64 != Zip64::Absent {
            let at = out.len() as u64;
            longs(&mut out, &[0x0606_4b50]);
            quads(&mut out, &[44]);
            words(&mut out, &[45, 45]);
            longs(&mut out, &[0, 0]);
            quads(&mut out, &[stated, stated, size as u64, start as u64]);
            longs(&mut out, &[0x0706_4b50, 0]);
            quads(&mut out, &[at]);
            longs(&mut out, &[1]);
        }
        let honest = self.zip64 == Zip64::Honest;
        let count = self.count.unwrap_or(if honest { u16::MAX } else { count as u16 });
        let size = self.directory_size.unwrap_or(if honest { u32::MAX } else { size as u32 });
        let start = self.directory_start.unwrap_or(if honest { u32::MAX } else { start as u32 });
        longs(&mut out, &[0x0605_4b50]);
        words(&mut out, &[self.disk, 0, count, count]);
        longs(&mut out, &[size, start]);
        words(&mut out, &[self.comment.len() as u16]);
        out.extend(&self.comment);
        out.extend(&self.trailing);
        out
    }
}

fn local(out: &mut Vec<u8>, entry: &Entry) -> u32 {
    out.extend(&entry.gap);
    let place = out.len() as u32;
    let header = &entry.local;
    let name = header.name.as_ref().unwrap_or(&entry.name);
    longs(out, &[0x0403_4b50]);
    words(out, &[0, header.flags, header.method, 0, 0]);
    longs(out, &[header.crc, header.stored, header.size]);
    words(out, &[name.len() as u16, header.extra.len() as u16]);
    out.extend(name);
    out.extend(&header.extra);
    out.extend(&entry.data);
    let (crc, stored, size) = (entry.central.crc, entry.central.stored, entry.central.size);
    match entry.descriptor {
        Descriptor::Absent => {}
        Descriptor::Narrow => longs(out, &[0x0807_4b50, crc, stored, size]),
        Descriptor::Unsigned => longs(out, &[crc, stored, size]),
        Descriptor::Wide => {
            longs(out, &[0x0807_4b50, crc]);
            quads(out, &[stored.into(), size.into()]);
        }
        Descriptor::Lying(crc, size) => longs(out, &[0x0807_4b50, crc, size, size]),
    }
    place
}

fn central(out: &mut Vec<u8>, entry: &Entry, place: u32) {
    let header = &entry.central;
    let name = header.name.as_ref().unwrap_or(&entry.name);
    longs(out, &[0x0201_4b50]);
    words(out, &[entry.made_by, 0, header.flags, header.method, 0, 0]);
    longs(out, &[header.crc, header.stored, header.size]);
    words(out, &[name.len() as u16, header.extra.len() as u16, entry.comment.len() as u16, 0, 0]);
    longs(out, &[entry.external, entry.offset.unwrap_or(place)]);
    out.extend(name);
    out.extend(&header.extra);
    out.extend(&entry.comment);
}

/// Torch's padding: an extra field `FB` of the letter Z.
pub(crate) fn padding(n: u16) -> Vec<u8> {
    let mut extra = b"FB".to_vec();
    words(&mut extra, &[n]);
    extra.extend(vec![b'Z'; n.into()]);
    extra
}

/// A torch archive of one pickle and storages by key.
pub(crate) fn torch_entries(pickle: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<Entry> {
    let mut entries = vec![
        Entry::torch("m/data.pkl", pickle).local(|header| header.extra = padding(20)),
        Entry::torch("m/byteorder", b"little"),
    ];
    entries.extend(storages.iter().map(|(key, data)| Entry::torch(&format!("m/data/{key}"), data)));
    entries.push(Entry::torch("m/version", b"3\n"));
    entries
}
