//! One tick as one picture: every camera with its overlay, and beside them the world from above.
//!
//! Data comes from the [`Body`] of a tick and goes into a [`Canvas`] whose size depends on the rig alone, so that all
//! ticks of a run fit into one video. Pictures are scaled before they are drawn on, so that text stays legible. A camera
//! without a picture leaves a dark place with its name.

use catseye_calibration::camera::Projection;
use catseye_calibration::rig::{self, Rig};
use catseye_sensors::picture::convert::to_rgb8;
use nalgebra::{Vector2, Vector3};

use super::birds_eye::draw_birds_eye;
use super::canvas::{Canvas, CanvasError, Colour, side_by_side};
use super::overlay::{MaskView, OverlayInput, draw_overlay};
use crate::messages::{BoxPx, Plan, WorldModel};
use crate::stages::geometry::CameraGeometry;
use crate::stages::network::undistorted_cameras;
use crate::tap::{Body, Picture};

/// All cameras together are at most this wide.
pub const MAX_WIDTH_PX: u32 = 1920;
/// All cameras together are at most this high.
pub const MAX_HEIGHT_PX: u32 = 1200;

/// A bird's-eye view that is less high has no room for its words.
const MIN_BIRDS_EYE_PX: u32 = 480;
const EMPTY: Colour = Colour::rgb(24, 27, 31);
const INK: Colour = Colour::rgb(225, 228, 232);
/// Stands for a pixel that the camera does not see.
const UNSEEN: u32 = u32::MAX;

/// Draws ticks of one rig.
pub struct Painter {
    cameras: Vec<CameraView>,
    class_names: Vec<String>,
    grid: Grid,
    /// Buffer for the pixels of one frame.
    rgb: Vec<u8>,
}

impl Painter {
    /// For this rig; `class_names` is what `class` in detections, tracks and objects counts in.
    pub fn new(rig: &Rig, class_names: &[String]) -> Self {
        let sizes: Vec<[u32; 2]> = rig.cameras.iter().map(|camera| [camera.width_px, camera.height_px]).collect();
        let grid = Grid::of(&sizes);
        let undistorted = undistorted_cameras(rig);
        let view = |(camera, undistorted)| CameraView::new(camera, undistorted, grid.cell_px);
        let cameras = rig.cameras.iter().zip(undistorted).map(view).collect();
        Painter { cameras, class_names: class_names.to_vec(), grid, rgb: Vec::new() }
    }

    /// Width and height of every picture, pixels.
    ///
    /// # Errors
    /// [`CanvasError::Size`] where a canvas cannot be as large.
    pub fn size_px(&self) -> Result<[u32; 2], CanvasError> {
        let above = draw_birds_eye(&WorldModel::default(), &Plan::default(), &[], self.birds_eye_height_px())?;
        let [width_px, height_px] = self.grid.size_px();
        Ok([width_px + above.width_px(), height_px.max(above.height_px())])
    }

    fn birds_eye_height_px(&self) -> u32 {
        self.grid.size_px()[1].max(MIN_BIRDS_EYE_PX)
    }

    /// Draws one tick. Times in the picture count from `start_ns`.
    ///
    /// # Errors
    /// [`CanvasError::Size`] where a canvas cannot be as large.
    pub fn draw(&mut self, body: &Body, start_ns: i64) -> Result<Canvas, CanvasError> {
        let [width_px, height_px] = self.grid.size_px();
        let mut mosaic = Canvas::new(width_px, height_px, EMPTY)?;
        let scene = Scene { body, class_names: &self.class_names, start_ns, has_titles: self.cameras.len() > 1 };
        for (index, camera) in self.cameras.iter().enumerate() {
            let [x, y] = self.grid.corner(index);
            let picture = body.pictures.iter().find(|picture| picture.camera == index);
            match picture.map(|picture| camera.draw(index, picture, &scene, &mut self.rgb)) {
                Some(Ok(drawn)) => {
                    let [free_x, free_y] = self.grid.around(&drawn);
                    mosaic.blit(&drawn, x + free_x / 2, y + free_y / 2);
                }
                // a picture of a size that cannot be shown must not end a run
                Some(Err(_)) => camera.explain(&mut mosaic, [x, y], "cannot be shown"),
                None => camera.explain(&mut mosaic, [x, y], "no picture"),
            }
        }
        let above = draw_birds_eye(&body.world, &body.plan, &self.class_names, self.birds_eye_height_px())?;
        side_by_side(&mosaic, &above)
    }
}

/// What all cameras of one tick share.
struct Scene<'a> {
    body: &'a Body,
    class_names: &'a [String],
    start_ns: i64,
    /// Whether cameras carry their names instead of the tick's words.
    has_titles: bool,
}

/// Where cameras stand: rows of equal cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    columns: u32,
    rows: u32,
    cell_px: [u32; 2],
}

impl Grid {
    /// One row for one camera, two for more; cells have room for the largest picture, scaled down where need be.
    fn of(sizes_px: &[[u32; 2]]) -> Grid {
        let count = sizes_px.len().clamp(1, rig::MAX_CAMERAS) as u32;
        let rows = count.min(2);
        let columns = count.div_ceil(rows);
        let largest = |axis: usize| sizes_px.iter().map(|size| size[axis]).max().unwrap_or(0).max(1);
        let (wanted, room) = ([largest(0), largest(1)], [MAX_WIDTH_PX / columns, MAX_HEIGHT_PX / rows]);
        let cell_px = if wanted[0] <= room[0] && wanted[1] <= room[1] { wanted } else { fit(wanted, room) };
        Grid { columns, rows, cell_px }
    }

    fn size_px(&self) -> [u32; 2] {
        [self.columns * self.cell_px[0], self.rows * self.cell_px[1]]
    }

    /// Top-left pixel of a camera's cell.
    fn corner(&self, index: usize) -> [i64; 2] {
        let (columns, index) = (i64::from(self.columns), index as i64);
        [index % columns * i64::from(self.cell_px[0]), index / columns * i64::from(self.cell_px[1])]
    }

    /// Width and height that a picture leaves free in its cell.
    fn around(&self, drawn: &Canvas) -> [i64; 2] {
        let [width, height] = self.cell_px.map(i64::from);
        [width - i64::from(drawn.width_px()), height - i64::from(drawn.height_px())]
    }
}

/// The largest size of the same shape within `room`; at least one pixel each way.
fn fit([width, height]: [u32; 2], room: [u32; 2]) -> [u32; 2] {
    let (wide, high) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let [room_wide, room_high] = room.map(|side| u64::from(side.max(1)));
    // rounded, and never above the room, so it fits into 32 bits
    let shown = if wide * room_high >= high * room_wide {
        [room_wide, ((high * room_wide + wide / 2) / wide).clamp(1, room_high)]
    } else {
        [((wide * room_high + high / 2) / high).clamp(1, room_wide), room_high]
    };
    shown.map(|side| side as u32)
}

/// One camera and how its pictures are shown.
struct CameraView {
    name: String,
    geometry: CameraGeometry,
    cell_px: [u32; 2],
    /// Where the networks see pictures without distortion: for each shown pixel, the frame's pixel, or [`UNSEEN`].
    straight: Option<Vec<u32>>,
}

impl CameraView {
    fn new(camera: &rig::Camera, undistorted: bool, cell_px: [u32; 2]) -> Self {
        let geometry = CameraGeometry::new(camera, undistorted);
        let straight = undistorted.then(|| straighten(camera, &geometry, fit(geometry.size_px, cell_px)));
        CameraView { name: camera.name.clone(), geometry, cell_px, straight }
    }

    fn draw(&self, index: usize, picture: &Picture, scene: &Scene, rgb: &mut Vec<u8>) -> Result<Canvas, CanvasError> {
        let frame_px = [picture.frame.width_px(), picture.frame.height_px()];
        to_rgb8(&picture.frame, rgb);
        let shown = self.shown(frame_px, rgb)?;
        let shown_px = [shown.width_px(), shown.height_px()];

        let body = scene.body;
        let from_frame = ratio(shown_px, frame_px);
        let mut detections = body.detections.get(index).cloned().unwrap_or_default();
        for object in &mut detections.objects {
            object.box_px = scaled(object.box_px, from_frame);
        }
        let mut tracks = body.tracks.get(index).cloned().unwrap_or_default();
        for track in &mut tracks.tracks {
            track.box_px = scaled(track.box_px, from_frame);
        }
        let from_rig = ratio(shown_px, self.geometry.size_px);
        let projection = |[x, y, z]: [f64; 3]| {
            let ([u, v], _) = self.geometry.picture_from_vehicle(&Vector3::new(x, y, z))?;
            // centres of pixels are at whole numbers
            Some([(u + 0.5) * from_rig[0] - 0.5, (v + 0.5) * from_rig[1] - 0.5])
        };
        // networks with masks stretch the picture over their input, so a mask spans the whole picture
        let masks = picture.masks.as_ref().map(|masks| MaskView {
            width: masks.width,
            height: masks.height,
            drivable: &masks.drivable,
            lanes: &masks.lanes,
        });
        draw_overlay(&OverlayInput {
            width_px: shown_px[0],
            height_px: shown_px[1],
            rgb: shown.rgb(),
            detections: &detections,
            tracks: &tracks,
            world: &body.world,
            plan: &body.plan,
            class_names: scene.class_names,
            masks,
            pixel_from_vehicle: Some(&projection),
            start_ns: scene.start_ns,
            title: scene.has_titles.then_some(self.name.as_str()),
        })
    }

    /// The frame as the networks saw it, at the size that fits the cell.
    fn shown(&self, frame_px: [u32; 2], rgb: &[u8]) -> Result<Canvas, CanvasError> {
        let whole = Canvas::from_rgb(frame_px[0], frame_px[1], rgb)?;
        let shown_px = fit(frame_px, self.cell_px);
        match &self.straight {
            Some(straight) if frame_px == self.geometry.size_px => gather(&whole, straight, shown_px),
            _ if shown_px == frame_px => Ok(whole),
            _ => whole.resize(shown_px[0], shown_px[1]),
        }
    }

    fn explain(&self, mosaic: &mut Canvas, [x, y]: [i64; 2], words: &str) {
        let text_px = (f64::from(self.cell_px[1]) / 45.0).clamp(11.0, 26.0);
        mosaic.label([x as f64, y as f64], text_px, &format!("{}: {words}", self.name), INK, EMPTY);
    }
}

fn ratio(shown_px: [u32; 2], from_px: [u32; 2]) -> [f64; 2] {
    [0, 1].map(|axis| f64::from(shown_px[axis]) / f64::from(from_px[axis].max(1)))
}

fn scaled(box_px: BoxPx, [x, y]: [f64; 2]) -> BoxPx {
    let (x, y) = (x as f32, y as f32);
    BoxPx { left: box_px.left * x, top: box_px.top * y, right: box_px.right * x, bottom: box_px.bottom * y }
}

/// For each pixel that is shown, the nearest pixel of the distorted frame.
fn straighten(camera: &rig::Camera, geometry: &CameraGeometry, shown_px: [u32; 2]) -> Vec<u32> {
    let [wide, high] = geometry.size_px;
    let [x_scale, y_scale] = ratio(geometry.size_px, shown_px);
    let source = |x: u32, y: u32| {
        let pixel = Vector2::new((f64::from(x) + 0.5) * x_scale - 0.5, (f64::from(y) + 0.5) * y_scale - 0.5);
        let at = camera.intrinsics.project(&geometry.lens.unproject(&pixel)?)?;
        let (column, row) = ((at.x + 0.5).floor(), (at.y + 0.5).floor());
        let inside = column >= 0.0 && row >= 0.0 && column < f64::from(wide) && row < f64::from(high);
        inside.then(|| (row as u32).checked_mul(wide)?.checked_add(column as u32)).flatten()
    };
    let pixels = (0..shown_px[1]).flat_map(|y| (0..shown_px[0]).map(move |x| (x, y)));
    pixels.map(|(x, y)| source(x, y).unwrap_or(UNSEEN)).collect()
}

fn gather(whole: &Canvas, straight: &[u32], [width_px, height_px]: [u32; 2]) -> Result<Canvas, CanvasError> {
    let mut rgb = Vec::with_capacity(straight.len().saturating_mul(3));
    let (pixels, _) = whole.rgb().as_chunks::<3>();
    for source in straight {
        rgb.extend(pixels.get(*source as usize).copied().unwrap_or_default());
    }
    Canvas::from_rgb(width_px, height_px, &rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{CameraDetections, CameraTrack, CameraTracks};
    use crate::stages::preprocess::raw_slot::RawSlot;
    use catseye_calibration::camera::{BrownConrady, CameraModel};
    use catseye_sensors::picture::{Frame, PixelFormat};

    const GREY: [u8; 3] = [90, 90, 90];

    fn frame(width_px: u32, height_px: u32) -> Frame {
        let data = GREY.repeat((width_px * height_px) as usize);
        Frame::new(width_px, height_px, PixelFormat::Rgb8, true, data).unwrap()
    }

    fn rig(cameras: usize, width_px: u32, height_px: u32) -> Rig {
        let mut rig = Rig::default_camera(width_px, height_px);
        let first = rig.cameras[0].clone();
        rig.cameras =
            (0..cameras).map(|index| rig::Camera { name: format!("camera {index}"), ..first.clone() }).collect();
        rig
    }

    fn body(cameras: usize, pictures: &[(usize, Frame)]) -> Body {
        let tracks = |sensor: usize| {
            let mut tracks = CameraTracks { sensor: sensor as u16, ..CameraTracks::default() };
            let box_px = BoxPx { left: 100.0, top: 100.0, right: 500.0, bottom: 300.0 };
            tracks.tracks.push(CameraTrack { id: 1, box_px, ..CameraTrack::default() }).unwrap();
            tracks
        };
        let picture = |(camera, frame): &(usize, Frame)| Picture {
            camera: *camera,
            frame: frame.clone(),
            raw: RawSlot::default(),
            masks: None,
        };
        Body {
            detections: vec![CameraDetections::default(); cameras],
            tracks: (0..cameras).map(tracks).collect(),
            world: WorldModel::default(),
            plan: Plan::default(),
            pictures: pictures.iter().map(picture).collect(),
        }
    }

    #[test]
    fn sizes_keep_their_shape_within_the_room() {
        assert_eq!(fit([1600, 900], [640, 600]), [640, 360]);
        assert_eq!(fit([900, 1600], [640, 800]), [450, 800]);
        assert_eq!(fit([640, 480], [640, 480]), [640, 480]);
        assert_eq!(fit([0, 0], [0, 0]), [1, 1]);
        assert_eq!(fit([1, u32::MAX], [640, 480]), [1, 480]);
    }

    #[test]
    fn one_camera_keeps_its_size_and_many_share_two_rows() {
        assert_eq!(Grid::of(&[[1242, 375]]), Grid { columns: 1, rows: 1, cell_px: [1242, 375] });
        assert_eq!(Grid::of(&[[3840, 2160]]), Grid { columns: 1, rows: 1, cell_px: [1920, 1080] });
        assert_eq!(Grid::of(&[[1600, 900]; 6]), Grid { columns: 3, rows: 2, cell_px: [640, 360] });
        assert_eq!(Grid::of(&[]), Grid { columns: 1, rows: 1, cell_px: [1, 1] });
        assert_eq!(Grid::of(&[[1600, 900]; 6]).corner(4), [640, 360]);
    }

    #[test]
    fn every_picture_has_the_size_that_was_announced() {
        let mut painter = Painter::new(&rig(3, 1000, 500), &[]);
        let expected = painter.size_px().unwrap();
        // two columns of 960 pixels, two rows of 480, and 40 m of 64 m beside them
        assert_eq!(expected, [1920 + 600, 960]);
        for pictures in [vec![], vec![(1, frame(1000, 500))], vec![(0, frame(64, 48)), (2, frame(1000, 500))]] {
            let canvas = painter.draw(&body(3, &pictures), 0).unwrap();
            assert_eq!([canvas.width_px(), canvas.height_px()], expected);
        }
    }

    #[test]
    fn a_camera_stands_in_its_cell_and_a_missing_one_leaves_it_dark() {
        let mut painter = Painter::new(&rig(3, 1000, 500), &[]);
        let canvas = painter.draw(&body(3, &[(1, frame(1000, 500))]), 0).unwrap();
        assert_eq!(canvas.pixel(1900, 450), Some(GREY));
        assert_eq!(canvas.pixel(500, 450), Some([24, 27, 31]));
        assert_eq!(canvas.pixel(500, 900), Some([24, 27, 31]));
    }

    #[test]
    fn boxes_shrink_with_their_picture() {
        // three columns of 640 pixels: four fifths of the size, so the box's left edge moves from 100 to 80
        let mut painter = Painter::new(&rig(6, 800, 450), &[]);
        let canvas = painter.draw(&body(6, &[(0, frame(800, 450))]), 0).unwrap();
        assert_ne!(canvas.pixel(80, 150), Some(GREY));
        assert_eq!(canvas.pixel(100, 150), Some(GREY));
        assert_eq!(canvas.pixel(600, 300), Some(GREY));
    }

    #[test]
    fn an_empty_frame_does_not_end_the_run() {
        let mut painter = Painter::new(&rig(1, 640, 480), &[]);
        assert!(painter.draw(&body(1, &[(0, Frame::default())]), 0).is_ok());
        // lists that are too short for the picture are no trouble either
        assert!(painter.draw(&body(0, &[(0, frame(640, 480))]), 0).is_ok());
    }

    #[test]
    fn an_undistorted_camera_is_shown_straight() {
        let mut rig = rig(1, 200, 100);
        let mut lens = BrownConrady::pinhole(100.0, 100.0, 99.5, 49.5);
        lens.k1 = -0.2;
        rig.cameras[0].intrinsics = CameraModel::BrownConrady(lens);
        let geometry = CameraGeometry::new(&rig.cameras[0], true);
        let straight = straighten(&rig.cameras[0], &geometry, [200, 100]);
        let at = |x: usize, y: usize| straight[y * 200 + x];
        assert_eq!(at(100, 50), 50 * 200 + 100);
        // barrel distortion: the pixel at 90 comes from nearer the middle
        let source = at(190, 50) % 200;
        assert!((170..188).contains(&source), "{source}");
        let whole = Canvas::from_rgb(200, 100, &GREY.repeat(200 * 100)).unwrap();
        let drawn = gather(&whole, &[0, UNSEEN], [2, 1]).unwrap();
        assert_eq!((drawn.pixel(0, 0), drawn.pixel(1, 0)), (Some(GREY), Some([0, 0, 0])));
    }
}
